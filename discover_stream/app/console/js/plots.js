// Lines over time, as SVG.

const NS = "http://www.w3.org/2000/svg";

function s(tag, attributes, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 1.0001) ?? 10 * power;
}

function path(values, x, y) {
  return values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)},${y(value).toFixed(1)}`).join("");
}

// series: [{name, colour, values}], one value per step, the last one now. Redraws into `host`.
export function timePlot(host, series, { stepS, unit, height = 180, label }) {
  const width = Math.max(240, host.clientWidth || 600), left = 44, bottom = 20, top = 8, right = 6;
  const steps = Math.max(2, ...series.map((each) => each.values.length));
  const most = niceTop(Math.max(...series.flatMap((each) => each.values), 0));
  const x = (index) => left + (index / (steps - 1)) * (width - left - right);
  const y = (value) => height - bottom - (value / most) * (height - bottom - top);
  const svg = s("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    svg.append(s("line", { class: "grid", x1: left, x2: width - right, y1: y(most * part), y2: y(most * part) }),
      s("text", { x: left - 6, y: y(most * part) + 4, "text-anchor": "end" }, String(+(most * part).toPrecision(3))));
  }
  const total = (steps - 1) * stepS;
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const ago = total * (1 - part);
    const words = part === 1 ? "now" : ago >= 120 ? `−${Math.round(ago / 60)} min` : `−${Math.round(ago)} s`;
    svg.append(s("text", { x: left + part * (width - left - right), y: height - 4, "text-anchor": part === 1 ? "end" : part ? "middle" : "start" }, words));
  }
  svg.append(s("text", { x: left + 4, y: top + 9 }, unit));
  for (const each of series) {
    const offset = steps - each.values.length;
    const line = path(each.values, (index) => x(index + offset), y);
    if (series.length <= 2 && line) {
      svg.append(s("path", { d: `${line}L${x(steps - 1)},${y(0)}L${x(offset)},${y(0)}Z`, fill: each.colour, opacity: 0.13 }));
    }
    svg.append(s("path", { d: line, fill: "none", stroke: each.colour, "stroke-width": 2, "stroke-linejoin": "round" }));
  }
  const hair = s("line", { class: "grid", y1: top, y2: height - bottom, visibility: "hidden" });
  const words = s("text", { y: top + 9, "text-anchor": "end", x: width - right });
  svg.append(hair, words);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = Math.round((((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * (steps - 1));
    if (at < 0 || at >= steps) return;
    hair.setAttribute("x1", x(at)); hair.setAttribute("x2", x(at)); hair.setAttribute("visibility", "visible");
    words.textContent = series.map((each) => `${each.name} ${(each.values[at - (steps - each.values.length)] ?? 0).toFixed(1)}`).join("   ");
  });
  svg.addEventListener("pointerleave", () => { hair.setAttribute("visibility", "hidden"); words.textContent = ""; });
  host.replaceChildren(svg);
}

export function spark(values, colour, { width = 120, height = 26, label = "" } = {}) {
  const most = Math.max(...values, 0.001), steps = Math.max(2, values.length);
  const x = (index) => (index / (steps - 1)) * width, y = (value) => height - 2 - (value / most) * (height - 4);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  if (values.length > 1) {
    const line = path(values, x, y);
    svg.append(s("path", { d: `${line}L${width},${height}L0,${height}Z`, fill: colour, opacity: 0.15 }),
      s("path", { d: line, fill: "none", stroke: colour, "stroke-width": 1.6 }));
  }
  return svg;
}
