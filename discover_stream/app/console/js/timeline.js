// What was there when: objects per label over a replay, gaps, what is ready; and where one is. A slider, also for keys.

import { h } from "./dom.js";
import { real, span } from "./words.js";

export class Timeline {
  constructor(seek) {
    this.seek = seek;
    this.canvas = h("canvas");
    this.mark = h("span.head", { "aria-hidden": "true" });
    this.legend = h("div.legend");
    this.element = h("div.timeline", { role: "slider", tabindex: 0, "aria-label": "Position in the replay", "aria-valuemin": 0, "aria-valuenow": 0 }, this.canvas, this.mark);
    this.replay = null;
    this.buckets = [];
    this.labels = [];
    this.ready = 0;
    const at = (event) => {
      const box = this.element.getBoundingClientRect();
      this.seek((Math.min(Math.max(event.clientX - box.left, 0), box.width) / box.width) * this.length);
    };
    this.element.addEventListener("pointerdown", (event) => { this.element.setPointerCapture(event.pointerId); at(event); });
    this.element.addEventListener("pointermove", (event) => { if (this.element.hasPointerCapture(event.pointerId)) at(event); });
    this.element.addEventListener("keydown", (event) => {
      const now = Number(this.element.getAttribute("aria-valuenow")), page = this.length / 10;
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, PageDown: now - page, PageUp: now + page, Home: 0, End: this.length - 0.2 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.seek(Math.min(Math.max(to, 0), this.length));
    });
    new ResizeObserver(() => this.draw()).observe(this.element);
    window.addEventListener("theme", () => this.draw());
  }

  get length() {
    return this.replay?.duration_s ?? 0;
  }

  show(replay, timeline) {
    this.replay = replay;
    this.buckets = timeline?.buckets ?? [];
    this.step = timeline?.step_s ?? 1;
    const totals = new Map();
    for (const bucket of this.buckets) for (const [label, number] of Object.entries(bucket.counts)) totals.set(label, (totals.get(label) ?? 0) + number);
    this.labels = [...totals].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([label]) => label);
    this.legend.replaceChildren(...this.labels.map((label, index) => h("span", {}, h("i.swatch", { style: `background:var(--c${index})` }), label)),
      ...(replay.gaps.length ? [h("span", {}, h("i.swatch", { style: "background:var(--bad)" }), "nothing was recorded")] : []),
      ...(replay.not_grounded_before ? [h("span", {}, h("i.swatch", { style: "background:var(--missing)" }), "task not looked for yet")] : []));
    this.element.setAttribute("aria-valuemax", this.length.toFixed(1));
    this.draw();
  }

  move(time) {
    if (!this.length) return;
    this.mark.style.left = `${(100 * time) / this.length}%`;
    this.element.setAttribute("aria-valuenow", time.toFixed(1));
    this.element.setAttribute("aria-valuetext", `${span(time)} of ${span(this.length)}`);
  }

  draw() {
    const { replay, canvas } = this, box = this.element.getBoundingClientRect();
    if (!replay || !box.width || !this.length) return;
    const scale = devicePixelRatio || 1, width = (canvas.width = box.width * scale), height = (canvas.height = box.height * scale);
    const context = canvas.getContext("2d"), x = (time) => (time / this.length) * width, floor = height - 8 * scale;
    const since = (iso) => (Date.parse(iso) - Date.parse(replay.from)) / 1000;
    const most = Math.max(1, ...this.buckets.map((bucket) => this.labels.reduce((sum, label) => sum + (bucket.counts[label] ?? 0), 0)));
    for (const bucket of this.buckets) {
      let y = floor;
      this.labels.forEach((label, index) => {
        const high = ((bucket.counts[label] ?? 0) / most) * (floor - 8 * scale);
        context.fillStyle = real(`--c${index}`);
        context.fillRect(x(bucket.t), y - high, Math.max(1, x(this.step) - scale), high);
        y -= high;
      });
    }
    const shade = (from, to, variable) => {
      context.globalAlpha = 0.45;
      context.fillStyle = real(variable);
      context.fillRect(x(Math.max(0, from)), 0, Math.max(2 * scale, x(to) - x(Math.max(0, from))), floor);
      context.globalAlpha = 1;
    };
    for (const gap of replay.gaps) shade(since(gap.from), since(gap.to), "--bad");
    if (replay.not_grounded_before) shade(0, since(replay.not_grounded_before), "--missing");
    context.fillStyle = real("--line");
    context.fillRect(0, floor + 2 * scale, width, 6 * scale);
    context.fillStyle = real("--accent");
    for (const number of this.played ?? []) context.fillRect(x(number * replay.segment_s), floor + 2 * scale, x(replay.segment_s) - scale, 6 * scale);
  }
}
