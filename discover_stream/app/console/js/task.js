// One task, from its words to what it finds: description, labels, found where; and its rate over time.

import { api, events } from "./api.js";
import { ask, field, fill, h, repeat, text, toast } from "./dom.js";
import { timePlot } from "./plots.js";
import { linesOf } from "./tasks.js";
import { SENT, clock, colour, rate, real } from "./words.js";

function describe(host, task, page) {
  const inquiry = task.inquiry;
  fill(host, h("span.step", {}, "1 · In words"), h("p.describe", {}, task.description || "no description"),
    h("div.tags", {}, h("span.pill", {}, h(`span.dot${task.on ? ".good" : ""}`), task.on ? "on" : "off"), h("span.pill", {}, `for ${task.profile === "human" ? "people" : "machines"}`),
      h("span.pill", {}, SENT[task.deliver]), task.tags ? h("span.pill", {}, "tags") : null,
      task.version !== null ? h("span.pill", {}, `labels version ${task.version}`) : null),
    task.asking ? h("p.note.pulse", {}, `A language model is being asked for labels (${task.asking}).`) : null,
    task.problem ? h("p.problem", { role: "alert" }, task.problem) : null,
    inquiry ? h("p.soft.small", {}, `Labels by ${inquiry.model}, ${inquiry.requests} requests, ${inquiry.seconds.toFixed(1)} s${inquiry.tokens_out ? `, ${inquiry.tokens_out} tokens` : ""}, ${clock(inquiry.at)}`) : null,
    page.me.mayOperate ? h("p", {}, h("button", { type: "button", onclick: () => change(task) }, "Change delivery")) : null);
}

function change(task) {
  ask(`How ${task.name} is delivered`, [
    field("It is sent", h("select", { name: "deliver" }, Object.entries(SENT).map(([value, words]) => h("option", { value, selected: task.deliver === value }, words)))),
    h("label.check", {}, h("input", { type: "checkbox", name: "tags", checked: task.tags }), "Packets name what is in the picture (tags)"),
  ], "Change", async (data) => {
    await api.changeTask(task.name, { deliver: data.get("deliver"), tags: data.get("tags") === "on" });
    toast("Changed; packets from now on follow it.");
  });
}

function labels(host, task, page) {
  const unseen = new Set(task.unseen_by_nano), find = h("input", { type: "search", placeholder: "Find a label", "aria-label": "Find a label" });
  const chips = task.all_labels.map((label) => h(unseen.has(label) ? "span.chip.unseen" : "span.chip", { title: unseen.has(label) ? "the nano grounder does not know this word" : null }, label));
  find.addEventListener("input", () => chips.forEach((chip) => { chip.hidden = !chip.textContent.toLowerCase().includes(find.value.toLowerCase()); }));
  const edit = () => {
    const area = h("textarea", { name: "labels", rows: 14, "aria-label": "Labels, one a line" });
    area.value = task.all_labels.join("\n");
    ask(`Labels of ${task.name}`, [field("Labels", area, "At least 100, one a line. They become a new version; what was recorded keeps the old one.")], "Save as a new version", async (data) => {
      const made = await api.setLabels(task.name, linesOf(data.get("labels")), undefined);
      toast(`Version ${made.version} of the labels is on.`);
    });
  };
  fill(host, h("span.step", {}, "2 · Labels"), h("div.head", { style: "margin:0" }, h("b", {}, `${task.all_labels.length} labels`), find, h("span.space"), page.me.mayOperate ? h("button", { type: "button", onclick: edit }, "Edit") : null),
    unseen.size ? h("p.soft.small", {}, `${unseen.size} of them (dashed) are not known to the nano grounder; Grounding DINO takes any words.`) : null,
    h("div.tags.labels", { tabindex: 0, role: "group", "aria-label": "Labels" }, chips));
}

// Where things were found: boxes of the newest frame, and dots that fade for those before it.
class Found {
  constructor(host, task, page) {
    this.task = task;
    this.page = page;
    this.dots = [];
    this.tally = new Map();
    this.size = null;
    this.image = h("img", { alt: "" });
    this.canvas = h("canvas", { role: "img", "aria-label": "Where things were found" });
    this.choice = h("select", { "aria-label": "Camera", onchange: () => this.clear() });
    this.caption = h("span.soft.small", {}, "waits for the next packet");
    this.bars = h("div.counts");
    fill(host, h("span.step", {}, "3 · Found where"), h("div.head", { style: "margin:0 0 .5rem" }, this.choice, this.caption), h("div.seen", {}, this.image, this.canvas), this.bars);
  }

  clear() {
    this.dots = [];
    this.tally.clear();
    this.size = this.shown = null;
    this.image.removeAttribute("src");
    this.canvas.width = 0;
    text(this.caption, "waits for the next packet");
    this.pictureAt = 0;
  }

  cameras(names) {
    // The one that sent something last stands first, and is shown until somebody chooses another.
    const have = new Set([...this.choice.options].map((each) => each.value));
    if (have.size !== names.length || names.some((each) => !have.has(each))) {
      const old = this.choice.value;
      fill(this.choice, names.map((name) => h("option", {}, name)));
      if (names.includes(old)) this.choice.value = old;
    }
  }

  // The picture of a packet, with that packet's regions over it; the next one when it is there and two seconds are over.
  async picture(packet) {
    if (this.fetching || Date.now() - (this.pictureAt ?? 0) < 2000) return;
    this.fetching = true;
    this.pictureAt = Date.now();
    const camera = this.choice.value, at = packet.capture;
    try {
      let answer;
      try { answer = await api.still(camera, { at, view: "original", burn_in: this.page.me.mayAdminister ? "false" : null }, this.page.signal); }
      catch (error) { if (error.name === "AbortError") return; answer = await api.still(camera, { at, task: this.task.name }, this.page.signal); }
      const old = this.image.src;
      this.image.src = URL.createObjectURL(await answer.blob());
      await this.image.decode();
      if (old) URL.revokeObjectURL(old);
      if (camera !== this.choice.value) return;
      this.size = [this.image.naturalWidth, this.image.naturalHeight];
      this.image.parentElement.style.aspectRatio = `${this.size[0]} / ${this.size[1]}`;
      text(this.caption, `${clock(packet.capture)} · ${packet.regions.length} regions · ${packet.bytes} bytes`);
      this.shown = packet.regions;
      this.draw(this.shown);
    } catch { /* the next packet tries again */ } finally { this.fetching = false; }
  }

  take(packet) {
    if (packet.camera !== this.choice.value || !packet.capture) return;
    for (const dot of this.dots) dot.age += 1;
    this.dots = this.dots.filter((dot) => dot.age < 120);
    for (const region of packet.regions) {
      this.dots.push({ x: (region.box[0] + region.box[2]) / 2, y: region.box[3], age: 0 });
      if (region.track) {
        if (!this.tally.has(region.label)) this.tally.set(region.label, new Set());
        this.tally.get(region.label).add(region.track);
      }
    }
    this.picture(packet);
    this.draw(this.shown ?? []);
    const rows = [...this.tally].map(([label, tracks]) => [label, tracks.size]).sort((a, b) => b[1] - a[1]).slice(0, 6);
    const most = Math.max(1, ...rows.map((row) => row[1]));
    fill(this.bars, rows.flatMap(([label, number]) => [h("span", {}, label), h("span.track", {}, h("div.fill", { style: `width:${(100 * number) / most}%` })), h("span.num", {}, String(number))]));
    this.bars.title = "Different objects seen since this page was opened";
  }

  draw(regions) {
    if (!this.size) return;
    const [width, height] = this.size, context = this.canvas.getContext("2d");
    this.canvas.width = width;
    this.canvas.height = height;
    const paint = real(colour(this.task.name));
    for (const dot of this.dots) {
      context.globalAlpha = 0.5 * (1 - dot.age / 120);
      context.fillStyle = paint;
      context.beginPath();
      context.arc(dot.x, dot.y, width / 160, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    context.lineWidth = Math.max(1.5, width / 420);
    context.font = `${Math.max(10, Math.round(width / 55))}px system-ui, sans-serif`;
    for (const region of regions) {
      const [x0, y0, x1, y1] = region.box;
      context.strokeStyle = paint;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      const words = region.label, wide = context.measureText(words).width + 6, high = Math.round(width / 46);
      context.fillStyle = paint;
      context.fillRect(x0, Math.max(0, y0 - high), wide, high);
      context.fillStyle = "#fff";
      context.fillText(words, x0 + 3, Math.max(high, y0) - high * 0.27);
    }
  }
}

export async function taskPage(main, page) {
  const name = page.name;
  let task = await api.task(name, page.signal);
  const first = h("section.card"), second = h("section.card"), third = h("section.card"), plot = h("div"), legend = h("div.legend"), now = h("span.soft");
  fill(main, h("div.head", {}, h("a.soft", { href: "#/tasks" }, "Tasks"), h("span.soft", {}, "›"), h("h1", {}, name), now, h("span.space"),
    h("a.button", { href: `#/player?task=${encodeURIComponent(name)}` }, "▶ Replay this task")),
  h("div.steps", {}, first, second, third),
  h("section.card", { style: "margin-top:1rem" }, h("h2", {}, "Bitrate, last ten minutes"), plot, legend));
  const found = new Found(third, task, page);
  describe(first, task, page);
  labels(second, task, page);
  let shown = JSON.stringify(task);
  repeat(3000, async () => {
    task = await api.task(name, page.signal);
    if (JSON.stringify(task) === shown) return;
    shown = JSON.stringify(task);
    describe(first, task, page);
    labels(second, task, page);
  }, page.signal);
  repeat(3000, async () => {
    const [history, substreams] = await Promise.all([api.history({ task: name, seconds: 600 }, page.signal), api.substreams({ task: name }, page.signal)]);
    const mine = history.series.filter((each) => each.task === name);
    const series = mine.map((each, index) => ({ name: each.camera, colour: `var(--c${index % 8})`, values: each.kbps }));
    if (series.length) timePlot(plot, series, { stepS: history.step_s, unit: "kbit/s", label: `kbit/s of ${name} per camera over the last ten minutes` });
    else fill(plot, h("p.empty", {}, task.on ? "No packet yet." : "The task is off."));
    fill(legend, series.map((each) => h("span", {}, h("i.swatch", { style: `background:${each.colour}` }), each.name)));
    text(now, rate(substreams.reduce((sum, each) => sum + each.kbps, 0)));
    const flowing = substreams.filter((each) => each.task === name).sort((a, b) => (a.age_s ?? Infinity) - (b.age_s ?? Infinity) || a.camera.localeCompare(b.camera));
    found.cameras(flowing.map((each) => each.camera));
  }, page.signal);
  if (task.on) events(name, { from: "latest" }, (kind, data) => { if (kind === "packet") found.take(data); }, page.signal);
}
