// What is drawn over a video: where each cell comes from, and the regions. It comes with the segment, decoded once.

import { api } from "./api.js";
import { PROVENANCE, colour, real } from "./words.js";

export class Overlay {
  constructor(canvas, video, signal) {
    this.canvas = canvas;
    this.video = video;
    this.signal = signal;
    this.replay = null;
    this.time = null;
    this.wanted = { provenance: false, regions: false };
    this.cars = new Map();
    this.frame = null;
    this.onframe = () => {};
  }

  follow(replay) {
    this.replay = replay;
    this.cars.clear();
    this.frame = null;
    this.time = null;
  }

  // The sidecar of the segment that is on the screen; fetched when the video is there, so it decodes nothing of its own.
  async side(number) {
    if (this.cars.has(number)) return;
    this.cars.set(number, null);
    try {
      const found = await api.sidecar(this.replay.id, number, this.signal);
      this.cars.set(number, found);
      if (this.cars.size > 40) this.cars.delete(this.cars.keys().next().value);
      this.draw();
    } catch (error) {
      if (error.name !== "AbortError") setTimeout(() => this.cars.delete(number), 1000);
    }
  }

  at(time) {
    const numbers = this.replay?.live ? [...this.cars.keys()] : [Math.floor((time + 0.02) / this.replay.segment_s)];
    let best = null;
    for (const number of numbers) {
      for (const frame of this.cars.get(number)?.frames ?? []) {
        if (frame.t <= time + 0.02 && (!best || frame.t >= best.t)) best = frame;
      }
    }
    return best;
  }

  draw() {
    if (!this.replay || this.time === null || this.video.readyState < 2) return;
    const time = this.time;
    if (!this.replay.live) this.side(Math.min(this.replay.segments - 1, Math.floor((time + 0.02) / this.replay.segment_s)));
    const frame = this.at(time);
    const { canvas, replay } = this, width = replay.width, height = replay.height, context = canvas.getContext("2d");
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    context.clearRect(0, 0, width, height);
    if (frame) {
      if (this.wanted.provenance && frame.provenance) this.cells(context, frame.provenance, width, height);
      if (this.wanted.regions) this.boxes(context, frame.regions, width);
    }
    if (frame !== this.frame) { this.frame = frame; this.onframe(frame); }
  }

  // A cell is 16 pixels; the last ones of a row or column may reach beyond the picture.
  cells(context, grid, width, height) {
    const wide = Math.max(16, Math.ceil(width / grid.columns)), high = Math.max(16, Math.ceil(height / grid.rows));
    const stepX = grid.columns === Math.ceil(width / 16) ? 16 : wide, stepY = grid.rows === Math.ceil(height / 16) ? 16 : high;
    const paints = Object.fromEntries(PROVENANCE.map((each) => [each.digit, real(each.colour)]));
    for (let row = 0; row < grid.rows; row += 1) {
      for (let column = 0; column < grid.columns; column += 1) {
        const digit = grid.cells[row * grid.columns + column];
        context.globalAlpha = digit === "3" ? 0.18 : 0.5;
        context.fillStyle = paints[digit];
        context.fillRect(column * stepX, row * stepY, stepX - 1, stepY - 1);
      }
    }
    context.globalAlpha = 1;
  }

  boxes(context, regions, width) {
    context.lineWidth = Math.max(1.5, width / 400);
    context.font = `${Math.max(10, Math.round(width / 52))}px system-ui, sans-serif`;
    for (const region of regions) {
      const [x0, y0, x1, y1] = region.box, paint = real(colour(region.task));
      context.strokeStyle = paint;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      const words = region.track ? `${region.label} ${region.track}` : region.label, high = Math.round(width / 44);
      context.fillStyle = paint;
      context.fillRect(x0, Math.max(0, y0 - high), context.measureText(words).width + 6, high);
      context.fillStyle = "#fff";
      context.fillText(words, x0 + 3, Math.max(high, y0) - high * 0.27);
    }
  }
}

// How large a part of the picture is of each kind, in the order of the legend.
export function shares(grid) {
  const counts = Object.fromEntries(PROVENANCE.map((each) => [each.digit, 0]));
  for (const digit of grid.cells) counts[digit] += 1;
  return PROVENANCE.map((each) => ({ ...each, share: counts[each.digit] / grid.cells.length }));
}
