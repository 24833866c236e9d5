// Replays: the original, what a task was sent, and everything, side by side and in step.

import Hls from "../vendor/hls.light.min.mjs";
import { api, token } from "./api.js";
import { fill, h, repeat, text, toast } from "./dom.js";
import { Overlay, shares } from "./overlay.js";
import { Timeline } from "./timeline.js";
import { PROVENANCE, clock, size, span } from "./words.js";

class Pane {
  constructor(kind, words, signal) {
    this.kind = kind;
    this.signal = signal;
    this.video = h("video", { playsinline: true, muted: true, preload: "auto", "aria-label": words, tabindex: -1 });
    this.video.muted = true;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.over = h("div.over", { role: "status" }, "Press play");
    this.caption = h("span.soft.small");
    this.element = h("figure.pane", { "data-pane": kind }, h("figcaption", {}, h("b", {}, words), this.caption), h("div.screen", {}, this.video, this.canvas, this.over));
    this.overlay = new Overlay(this.canvas, this.video, signal);
    this.replay = null;
    this.hls = null;
    this.failed = false;
    this.dead = false;
    // The time of the picture on the screen, exactly; the clock of the video may already stand in the next one.
    const next = (_, picture) => { if (signal.aborted) return; this.overlay.time = picture.mediaTime; this.overlay.draw(); this.video.requestVideoFrameCallback(next); };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(next);
    else this.video.addEventListener("timeupdate", () => { this.overlay.time = this.video.currentTime; this.overlay.draw(); });
  }

  say(words) {
    text(this.over, words);
    this.over.hidden = !words;
  }

  get ready() {
    return this.failed || this.video.ended || this.video.readyState >= 3;
  }

  fail(words) {
    this.failed = true;
    this.say(words);
  }

  async open(order) {
    this.replay = await api.replay(order, this.signal);
    this.element.querySelector(".screen").style.aspectRatio = `${this.replay.width} / ${this.replay.height}`;
    this.overlay.follow(this.replay);
    text(this.caption, this.replay.note ?? "");
    this.started = false;
  }

  // Only now is anything asked for: before somebody presses play, nothing is decoded.
  start(at = -1) {
    if (this.started || !this.replay) return;
    this.started = true;
    this.say("Starting a decoder …");
    if (Hls.isSupported()) {
      this.hls = new Hls({ enableWorker: false, startPosition: at, maxBufferLength: 8, maxMaxBufferLength: 12, backBufferLength: 60, fragLoadingTimeOut: 180000,
        fragLoadPolicy: { default: { maxTimeToFirstByteMs: 180000, maxLoadTimeMs: 240000, timeoutRetry: { maxNumRetry: 2, retryDelayMs: 500, maxRetryDelayMs: 4000 }, errorRetry: { maxNumRetry: 4, retryDelayMs: 1000, maxRetryDelayMs: 8000 } } },
        xhrSetup: (request) => { if (token.get()) request.setRequestHeader("Authorization", `Bearer ${token.get()}`); } });
      this.hls.on(Hls.Events.ERROR, (_, data) => { if (!data.fatal) return; this.dead = true; this.fail(`It cannot be played: ${data.response?.text || data.error?.message || data.details}`); });
      this.hls.on(Hls.Events.FRAG_CHANGED, (_, { frag }) => {
        const number = frag.relurl?.match(/(\d+)\.m4s/)?.[1];
        if (this.replay?.live && number) this.overlay.side(Number(number));
      });
      this.hls.loadSource(this.replay.playlist);
      this.hls.attachMedia(this.video);
    } else {
      this.video.src = this.replay.playlist;
    }
  }

  close() {
    this.hls?.destroy();
    this.video.removeAttribute("src");
    if (this.replay) api.leave(this.replay.id).catch(() => {});
    this.replay = null;
  }
}

const SPANS = [["10", "last 10 s"], ["30", "last 30 s"], ["60", "last minute"], ["300", "last 5 minutes"], ["", "everything"], ["own", "from … to"], ["live", "live, some seconds behind"]];

export async function playerPage(main, page) {
  const { signal, options, me } = page;
  // Who may see cameras alone is shown everything that they sent.
  const [cameras, tasks] = await Promise.all([api.cameras(signal), me.role === "viewer" ? [] : api.tasks(signal)]);
  const recorded = cameras.filter((camera) => camera.first);
  fill(main, h("div.head", {}, h("h1", {}, "Player")));
  if (!recorded.length) { main.append(h("div.card.empty", {}, "Nothing is recorded yet. Add a camera on the Fleet page, and come back in half a minute.")); return; }
  const select = (name, values, chosen) => h("select", { name }, values.map(([value, words]) => h("option", { value, selected: value === chosen }, words)));
  const camera = select("camera", recorded.map((each) => [each.name, each.name]), options.get("camera") ?? recorded[0].name);
  const known = tasks.filter((task) => task.labels > 0).map((task) => [task.name, task.name]);
  const task = select("task", known, options.get("task") ?? known[0]?.[0]);
  const length = select("span", SPANS, options.get("span") ?? "30");
  const begin = h("input", { name: "from", placeholder: "+0s", "aria-label": "From", value: options.get("from") ?? "" }), end = h("input", { name: "to", placeholder: "+30s", "aria-label": "To", value: options.get("to") ?? "" });
  const own = h("label", { hidden: true }, "From … to (time, or +seconds)", h("span", { style: "display:flex;gap:.4rem" }, begin, end));
  const profile = select("profile", [["human", "people"], ["machine", "machines"]], "human");
  const steps = h("input.short", { name: "steps", type: "number", min: 1, max: 1000, placeholder: "auto" });
  const burned = h("input", { name: "burn", type: "checkbox", checked: true, disabled: !me.mayAdminister });
  const views = known.length ? { original: "Original", task: "Task", all: "Everything" } : { original: "Original", all: "Everything" };
  const chosen = new Set((options.get("panes") ?? "task").split(",").filter((kind) => kind in views));
  if (!chosen.size) chosen.add("all");
  const switches = Object.entries(views).map(([kind, words]) => h("button", { type: "button", "data-view": kind, "aria-pressed": String(chosen.has(kind)), onclick: (event) => {
    if (chosen.has(kind) && chosen.size === 1) return;
    chosen[chosen.has(kind) ? "delete" : "add"](kind);
    event.currentTarget.setAttribute("aria-pressed", String(chosen.has(kind)));
    open();
  } }, words));
  const order = h("form.order", { onsubmit: (event) => { event.preventDefault(); open(); } }, h("label", {}, "Camera", camera), known.length ? h("label", {}, "Task", task) : null, h("label", {}, "When", length), own,
    h("label", {}, "Decoded for", profile), h("label", {}, "Steps", steps), h("div", { role: "group", "aria-label": "Side by side", style: "display:flex;gap:.3rem" }, switches),
    h("label.check", { title: me.mayAdminister ? null : "an administrator may switch it off" }, burned, "Burn in time and warning"), h("button.main", { type: "submit", id: "open" }, "Open"));
  const stage = h("div.panes"), clockText = h("span.clock", { id: "clock" }), where = h("span.num.soft", { id: "where" });
  const play = h("button.main", { type: "button", id: "play", onclick: () => toggle(), "aria-label": "Play" }, "▶ Play");
  const speed = select("speed", [["0.5", "½ ×"], ["1", "1 ×"], ["2", "2 ×"], ["4", "4 ×"]], "1");
  speed.setAttribute("aria-label", "Speed");
  const mark = { provenance: false, regions: true };
  const marker = (kind, words) => h("button", { type: "button", id: `mark-${kind}`, "aria-pressed": String(mark[kind]), onclick: () => {
    mark[kind] = !mark[kind];
    document.getElementById(`mark-${kind}`).setAttribute("aria-pressed", String(mark[kind]));
    redraw();
  } }, words);
  const save = h("button", { type: "button", id: "export", onclick: () => film() }, "⤓ Export film"), saved = h("span.small", { id: "exported", role: "status" });
  const picture = h("button", { type: "button", onclick: () => still() }, "⤓ Picture");
  const timeline = new Timeline((time) => seek(time)), problem = h("p.problem", { hidden: true, role: "alert" }), note = h("p.note", { hidden: true });
  const shareBar = h("div.share", { role: "img", "aria-label": "Where the picture comes from" }), shareLegend = h("div.legend", { id: "provenance" });
  const counters = h("div.soft.small.num", { id: "decoded" }), what = h("div.tags");
  main.append(h("div.card", {}, order, problem, note, stage,
    h("div.transport", {}, h("button", { type: "button", "aria-label": "Back five seconds", onclick: () => seek(now() - 5) }, "−5 s"), play, h("button", { type: "button", "aria-label": "Forward five seconds", onclick: () => seek(now() + 5) }, "+5 s"), speed, where, clockText,
      h("span.space"), marker("provenance", "Provenance"), marker("regions", "Regions"), picture, save, saved), timeline.element, timeline.legend),
  h("div.under", {}, h("section.card", {}, h("h2", {}, "Where this picture comes from"), shareBar, shareLegend, h("p.soft.small", {}, "A reconstructed picture is not evidence: what is generated is a guess.")),
    h("section.card", {}, h("h2", {}, "In this picture"), what, counters, h("p.soft.small", {}, h("kbd", {}, "space"), " play  ", h("kbd", {}, "←"), h("kbd", {}, "→"), " 5 s  ", h("kbd", {}, "P"), " provenance  ", h("kbd", {}, "R"), " regions"))));
  let panes = [], lead = null, opening = 0, playing = false;

  const now = () => lead?.video.currentTime ?? 0;
  const redraw = () => panes.forEach((pane) => { pane.overlay.wanted = { ...mark, provenance: mark.provenance && pane.kind !== "original" }; pane.overlay.draw(); });

  function request(kind) {
    const span = length.value, chosenCamera = recorded.find((each) => each.name === camera.value), made = { camera: camera.value, profile: profile.value, burn_in: burned.checked, view: kind === "original" ? "original" : "decoded", task: kind === "task" ? task.value : "all" };
    if (steps.value) made.steps = Number(steps.value);
    if (span === "live") made.live = true;
    else if (span === "own") { made.from = begin.value || "+0s"; if (end.value) made.to = end.value; }
    else if (span) {
      // The end is given too: otherwise panes that open one after another would show spans of their own.
      const last = Date.parse(chosenCamera.last);
      made.from = new Date(Math.max(Date.parse(chosenCamera.first), last - 1000 * Number(span))).toISOString();
      made.to = new Date(last + 1).toISOString();
    }
    return made;
  }

  async function open() {
    const turn = (opening += 1);
    own.hidden = length.value !== "own";
    problem.hidden = true;
    note.hidden = true;
    panes.forEach((pane) => pane.close());
    playing = false;
    balance();
    fill(saved);
    panes = [];
    try {
      const fresh = (await api.cameras(signal)).find((each) => each.name === camera.value);
      if (fresh?.first) Object.assign(recorded.find((each) => each.name === camera.value), fresh);
      const made = Object.entries(views).filter(([kind]) => chosen.has(kind)).map(([kind, words]) => new Pane(kind, kind === "task" ? `Task ${task.value}` : words, signal));
      stage.style.setProperty("--panes", made.length);
      fill(stage, made.map((pane) => pane.element));
      const outcomes = await Promise.allSettled(made.map((pane) => pane.open(request(pane.kind))));
      if (turn !== opening || signal.aborted) { made.forEach((pane) => pane.close()); return; }
      outcomes.forEach((outcome, index) => { if (outcome.status === "rejected") made[index].fail(outcome.reason.message); });
      panes = made.filter((pane) => pane.replay);
      lead = panes.find((pane) => pane.kind === "task") ?? panes[0] ?? null;
      if (!lead) throw outcomes[0].reason;
    } catch (error) {
      if (error.name === "AbortError") return;
      lead = null;
      text(problem, error.message);
      problem.hidden = false;
      return;
    }
    const { replay } = lead;
    lead.overlay.onframe = shown;
    for (const kind of ["timeupdate", "seeking", "ended"]) lead.video.addEventListener(kind, tick);
    const told = [replay.note, replay.not_grounded_before ? `Task ${replay.task} was not looked for before ${clock(replay.not_grounded_before)}.` : null].filter(Boolean);
    note.hidden = !told.length;
    text(note, told.join(" "));
    timeline.played = [];
    timeline.show(replay, null);
    redraw();
    tick();
    api.timeline(replay.id, signal).then((found) => { if (turn === opening) timeline.show(replay, found); }).catch(() => {});
  }

  const others = (work) => panes.forEach((pane) => { if (pane !== lead) work(pane); });

  function start(at) {
    panes.forEach((pane) => { pane.start(at); pane.video.playbackRate = Number(speed.value); });
  }

  function toggle() {
    if (!lead) return;
    start();
    playing = !playing;
    if (playing && lead.video.ended) panes.forEach((pane) => { pane.video.currentTime = 0; });
    balance();
  }

  // All play, or all wait for the slowest.
  function balance() {
    if (playing && lead?.video.ended) playing = false;
    const go = playing && panes.every((pane) => pane.ready);
    for (const { video } of panes) {
      if (go && video.paused && !video.ended) video.play().catch(() => {});
      if (!go && !video.paused) video.pause();
    }
    // A video may show one more picture after it was told to stop: the others follow it there.
    if (!playing && lead?.video.paused) others(({ video }) => { if (video.readyState > 0 && !video.seeking && Math.abs(video.currentTime - now()) > 0.001) video.currentTime = now(); });
    for (const pane of panes) if (pane.started && !pane.failed) pane.say(pane.ready ? "" : "Decoding …");
    text(play, playing ? "❚❚ Pause" : "▶ Play");
    play.setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  function seek(time) {
    if (!lead || lead.replay.live) return;
    const to = Math.min(Math.max(0, time), Math.max(0, lead.replay.duration_s - 0.05));
    start(to);
    panes.forEach((pane) => { pane.video.currentTime = to; });
    timeline.move(to);
  }

  // The others keep in step with the first one: jumps are followed at once, drifts of more than a frame or two too.
  function tick() {
    if (!lead?.replay) return;
    const time = now();
    timeline.move(time);
    text(where, `${span(time)} / ${lead.replay.live ? "live" : span(lead.replay.duration_s)}`);
    others((pane) => {
      if (pane.video.readyState < 1) return;
      if (Math.abs(pane.video.currentTime - time) > 0.25 && !pane.video.ended) pane.video.currentTime = time;
    });
  }

  function shown(frame) {
    if (!frame) return;
    text(clockText, frame.card ?? clock(frame.capture));
    const tally = new Map();
    for (const region of frame.regions) tally.set(region.label, (tally.get(region.label) ?? 0) + 1);
    fill(what, tally.size ? [...tally].map(([label, number]) => h("span.chip", {}, `${number} ${label}`)) : h("span.soft", {}, "no regions"));
    if (!frame.provenance) { fill(shareBar); fill(shareLegend, h("span", {}, "the original: nothing is decoded")); return; }
    const parts = shares(frame.provenance);
    fill(shareBar, parts.map((each) => h("i", { style: `width:${100 * each.share}%;background:var(${each.colour})`, title: each.name })));
    fill(shareLegend, parts.map((each) => h("span", { title: each.says, "data-provenance": each.name }, h("i.swatch", { style: `background:var(${each.colour})` }), `${each.name} ${(100 * each.share).toFixed(each.share && each.share < 0.01 ? 1 : 0)} %`)));
  }

  async function still() {
    if (!lead) return;
    const frame = lead.overlay.frame, at = frame?.capture ?? lead.replay.from;
    try {
      const answer = await api.still(lead.replay.camera, { at, task: lead.replay.task, profile: lead.replay.profile, format: "png", overlay: mark.provenance ? "provenance" : null }, signal);
      const link = h("a", { href: URL.createObjectURL(await answer.blob()), download: `${lead.replay.camera}-${at.replaceAll(":", "")}.png` });
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) { toast(error.message, true); }
  }

  async function film() {
    if (!lead) return;
    save.disabled = true;
    const bar = h("progress", { max: 1, value: 0, "aria-label": "Export", style: "width:8rem" });
    fill(saved, bar);
    try {
      let state = await api.export(lead.replay.id);
      while (state.state === "running") {
        bar.value = state.done;
        await new Promise((done) => setTimeout(done, 500));
        if (signal.aborted) return;
        state = await api.exportState(state.id);
      }
      if (state.state !== "done") throw new Error(state.problem ?? `the export was ${state.state}`);
      fill(saved, h("a", { href: state.film, download: `${lead.replay.camera}-${lead.replay.task}.mp4`, id: "film" }, `film.mp4, ${size(state.bytes)}`));
    } catch (error) {
      fill(saved);
      toast(error.message, true);
    } finally { save.disabled = false; }
  }

  speed.addEventListener("change", () => panes.forEach((pane) => { pane.video.playbackRate = Number(speed.value); }));
  for (const input of [camera, task, length, profile, burned]) input.addEventListener("change", open);
  const keys = (event) => {
    if (event.target.closest("input, select, textarea, button, a, dialog")) return;
    const work = { " ": toggle, ArrowLeft: () => seek(now() - 5), ArrowRight: () => seek(now() + 5), p: () => document.getElementById("mark-provenance").click(), r: () => document.getElementById("mark-regions").click() }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!work || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    work();
  };
  document.addEventListener("keydown", keys, { signal });
  const turns = setInterval(balance, 150);
  signal.addEventListener("abort", () => clearInterval(turns));
  signal.addEventListener("abort", () => panes.forEach((pane) => pane.close()));
  repeat(1000, async () => {
    if (!panes.length) return;
    const states = await Promise.all(panes.map((pane) => api.replayState(pane.replay.id, signal)));
    const sum = (name) => states.reduce((total, each) => total + each.progress[name], 0);
    text(counters, `${sum("frames_decoded")} pictures decoded · ${sum("segments_ready")} of ${sum("segments")} segments ready · ${size(sum("bytes"))}`);
    counters.dataset.frames = String(sum("frames_decoded"));
    states.forEach((state, index) => {
      const pane = panes[index];
      if (!pane || pane.dead) return;
      if (state.progress.failed) pane.fail(state.progress.failed);
      else pane.failed = false; // it went well when it was tried again
    });
    if (lead?.hls && !lead.replay.live) {
      const length = lead.replay.segment_s, buffered = lead.video.buffered, played = new Set(timeline.played);
      for (let each = 0; each < buffered.length; each += 1) for (let n = Math.ceil(buffered.start(each) / length - 0.2); (n + 1) * length <= buffered.end(each) + 0.3; n += 1) played.add(n);
      if (played.size !== timeline.played.length) { timeline.played = [...played]; timeline.draw(); }
    }
  }, signal);
  await open();
}
