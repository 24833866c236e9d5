// The fleet: every camera with its picture, its health, and what each task takes of it beside H.264.

import { api } from "./api.js";
import { ask, field, fill, h, repeat, text, toast } from "./dom.js";
import { spark } from "./plots.js";
import { HEALTH, clock, colour, count, rate } from "./words.js";

const PICTURE_MS = 5000, H264_MS = 120000;

function figure(words) {
  const value = h("b", {}, "–");
  return { element: h("div.figure", {}, value, h("span", {}, words)), set: (...parts) => fill(value, ...parts) };
}

class CameraCard {
  constructor(camera, page) {
    this.name = camera.name;
    this.page = page;
    this.shownAt = 0;
    this.measuredAt = 0;
    this.h264 = null;
    this.image = h("img", { alt: `Newest picture of ${camera.name}`, hidden: true });
    this.none = h("span.none", {}, "no picture yet");
    this.when = h("span.pill", { hidden: true });
    this.dot = h("span.dot");
    this.health = h("span.soft.small");
    this.facts = h("div.facts");
    this.problem = h("p.note", { hidden: true });
    this.rates = h("div.rates");
    this.history = h("span");
    const play = h("a.button", { href: `#/player?camera=${encodeURIComponent(camera.name)}` }, "▶ Replay");
    this.remover = h("button.quiet.danger", { type: "button", onclick: () => this.remove(), "aria-label": `Remove camera ${camera.name}` }, "Remove");
    this.element = h("article.card.camera", { "data-camera": camera.name, "aria-label": `Camera ${camera.name}` },
      h("a.view", { href: play.getAttribute("href"), tabindex: -1, "aria-hidden": "true" }, this.image, this.none, h("span.corner", {}, this.when)),
      h("div.inside", {},
        h("div.name", {}, this.dot, h("b", {}, camera.name), this.health, h("span.space"), this.history),
        this.facts, this.problem, this.rates, h("div.foot", {}, play, h("span.space"), page.me.mayOperate ? this.remover : null)));
  }

  // kbit/s that H.264 would take at the rate of frames that this camera is coded at now: else a system that falls
  // behind would look thrifty. Null where it was not measured.
  beside(camera) {
    if (!this.h264?.kbps) return null;
    return this.h264.kbps * Math.min(1, camera.fps / (this.h264.frames / this.h264.seconds));
  }

  update(camera, series) {
    this.dot.className = `dot ${HEALTH[camera.health] ?? "warn"}`;
    const look = camera.picture && !["ok", "unknown"].includes(camera.picture) ? `, picture ${camera.picture}` : "";
    const removed = camera.health === "removed";
    text(this.health, removed ? "removed; its recording stays" : camera.health + look);
    this.remover.hidden = removed;
    this.element.style.order = removed ? 1 : 0;
    const dropped = Object.entries(camera.dropped).filter(([, number]) => number);
    fill(this.facts, h("span", {}, `${camera.fps.toFixed(1)} fps`), h("span", {}, `${count(camera.frames)} frames`),
      camera.mode ? h("span", { title: camera.mode_reason }, `${camera.mode} mode`) : null,
      camera.width ? h("span", {}, `${camera.width}×${camera.height}`) : null,
      h("span", {}, dropped.length ? `dropped: ${dropped.map(([why, number]) => `${number} ${why}`).join(", ")}` : "no drops"),
      camera.gaps ? h("span", {}, `${camera.gaps} gaps`) : null);
    this.problem.hidden = !camera.problem;
    text(this.problem, camera.problem ?? "");
    const tasks = Object.entries(camera.tasks).filter(([name]) => name !== "all");
    const rows = [...tasks, ["all", camera.kbps]];
    const beside = this.beside(camera), most = Math.max(...rows.map((row) => row[1]), beside ?? 0, 1);
    const bar = (name, value, h264) => [
      h("span", {}, name),
      h("span.track", {}, h(h264 ? "div.fill.h264" : "div.fill", { style: `width:${(100 * (value ?? 0)) / most}%;${h264 ? "" : `background:${colour(name)}`}` })),
      h("span.num", { "data-rate": name }, rate(value)),
    ];
    const other = beside === null ? [] : bar("as H.264", beside, true);
    fill(this.rates, rows.flatMap(([name, value]) => bar(name, value, false)), other);
    if (beside !== null) this.rates.title = `H.264: ${this.h264.method}; at the ${camera.fps.toFixed(1)} frames a second coded now. Not at equal quality: see docs/results.md.`;
    if (series?.length > 1) fill(this.history, spark(series, "var(--c0)", { label: `kbit/s of ${this.name} over the last ten minutes` }));
    this.look(camera);
  }

  async look(camera) {
    const now = Date.now(), { signal } = this.page;
    if (!camera.frames) return;
    if (now - this.shownAt > PICTURE_MS && !this.asking) {
      this.asking = true; // a gateway that is slow is not asked again meanwhile
      try {
        let answer;
        try { answer = await api.still(this.name, { view: "original", burn_in: this.page.me.mayAdminister ? "false" : null }, signal); }
        catch (error) { if (error.name === "AbortError") return; answer = await api.still(this.name, { view: "decoded" }, signal); }
        const old = this.image.src;
        this.image.src = URL.createObjectURL(await answer.blob());
        this.image.hidden = false;
        this.none.hidden = true;
        if (old) URL.revokeObjectURL(old);
        const captured = answer.headers.get("X-Capture-Time");
        this.when.hidden = !captured;
        text(this.when, clock(captured));
      } catch (error) {
        if (error.name !== "AbortError" && this.image.hidden) text(this.none, error.message);
      } finally {
        this.asking = false;
        this.shownAt = Date.now();
      }
    }
    if (now - this.measuredAt > H264_MS && camera.frames > 10 && camera.health === "running") {
      this.measuredAt = now;
      try {
        const measured = await api.h264(this.name, signal);
        if (measured.kbps !== null) this.h264 = measured;
      } catch { /* originals are not kept: nothing to compare with */ }
    }
  }

  remove() {
    ask(`Remove camera ${this.name}?`, h("p", {}, "Its recording stays, and it can be added again."), "Remove", async () => {
      await api.removeCamera(this.name);
      toast(`Camera ${this.name} is being removed.`);
    });
  }
}

function addCamera() {
  const fields = [
    field("Name", h("input", { name: "name", required: true, pattern: "[a-z0-9][a-z0-9\\-]{0,39}", autocomplete: "off", autofocus: true }), "Lower-case letters, digits and dashes."),
    field("Source", h("input", { name: "source", required: true, autocomplete: "off", placeholder: "rtsp://192.0.2.7/stream1" }),
      "An rtsp, http or sim address, or a file on the gateway's machine. Passwords: ${NAME}, from the environment of ingest."),
    field("Frames per second, at most", h("input", { name: "fps", type: "number", min: 0.1, max: 240, step: "any" }), "Empty: all that come."),
    field("How it is coded", h("select", { name: "mode" }, h("option", { value: "" }, "as the configuration says"), h("option", {}, "auto"), h("option", {}, "stream"), h("option", {}, "still")),
      "stream: a fixed camera, composed in time. still: every frame for itself."),
    h("label.check", {}, h("input", { name: "realtime", type: "checkbox" }), "Play a file or simulated camera at its own rate"),
  ];
  ask("Add a camera", fields, "Add camera", async (data) => {
    await api.addCamera({
      name: data.get("name"), source: data.get("source"), realtime: data.get("realtime") === "on",
      fps: data.get("fps") ? Number(data.get("fps")) : null, mode: data.get("mode") || null,
    });
    toast(`Camera ${data.get("name")} is added; its first picture takes some seconds.`);
  });
}

export async function fleetPage(main, page) {
  const cameras = figure("cameras running"), frames = figure("frames a second"), bits = figure("all cameras, archived"), less = figure("of the bits of H.264 (x264, crf 28)");
  const grid = h("div.fleet"), cards = new Map(), search = h("input", { type: "search", placeholder: "Find a camera", "aria-label": "Find a camera", hidden: true });
  fill(main,
    h("div.head", {}, h("h1", {}, "Fleet"), h("span.space"), search, page.me.mayOperate ? h("button.main", { type: "button", id: "add-camera", onclick: addCamera }, "+ Add camera") : null),
    h("div.figures", {}, cameras.element, frames.element, bits.element, less.element), grid);
  let series = new Map();
  if (page.me.role !== "viewer") repeat(6000, async () => {
    const history = await api.history({ task: "all", seconds: 600 }, page.signal);
    series = new Map(history.series.map((each) => [each.camera, each.kbps]));
  }, page.signal);
  await repeat(2000, async () => {
    const found = await api.cameras(page.signal);
    const names = new Set(found.map((each) => each.name));
    for (const [name, card] of cards) if (!names.has(name)) { card.element.remove(); cards.delete(name); }
    if (!found.length) fill(grid, h("div.card.empty", {}, "No camera yet. Add one, and its picture is here in a few seconds."));
    else if (!cards.size) fill(grid);
    search.hidden = found.length < 9;
    for (const camera of found) {
      let card = cards.get(camera.name);
      if (!card) { card = new CameraCard(camera, page); cards.set(camera.name, card); grid.append(card.element); }
      card.element.hidden = search.value !== "" && !camera.name.includes(search.value.toLowerCase());
      card.update(camera, series.get(camera.name));
    }
    const running = found.filter((each) => each.health === "running");
    cameras.set(String(running.length), h("small", {}, `of ${found.filter((each) => each.health !== "removed").length}`));
    frames.set(running.reduce((sum, each) => sum + each.fps, 0).toFixed(1));
    bits.set(rate(found.reduce((sum, each) => sum + each.kbps, 0)));
    const compared = found.filter((each) => cards.get(each.name).beside(each) && each.kbps > 0);
    const ours = compared.reduce((sum, each) => sum + each.kbps, 0), theirs = compared.reduce((sum, each) => sum + cards.get(each.name).beside(each), 0);
    less.set(theirs ? `${Math.round((100 * ours) / theirs)} %` : "–");
  }, page.signal);
}
