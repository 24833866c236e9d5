// Numbers and times as people read them; colours that stay with a name.

export function rate(kbps) {
  if (kbps === null || kbps === undefined) return "–";
  if (kbps >= 1000) return `${(kbps / 1000).toFixed(kbps >= 10000 ? 0 : 1)} Mbit/s`;
  return `${kbps >= 100 ? kbps.toFixed(0) : kbps.toFixed(1)} kbit/s`;
}

export function count(value) {
  return value >= 10000 ? `${(value / 1000).toFixed(value >= 100000 ? 0 : 1)} k` : String(value);
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export function clock(iso) {
  return iso ? iso.replace("T", " ").replace(/(\.\d)\d*Z$/, "$1").replace("Z", "") + " UTC" : "–";
}

export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.floor(seconds), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes % 60)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

const order = ["vehicles", "pedestrians", "everything", "all"];

// A colour of the palette: built-in tasks have fixed ones, other names one that follows from the name alone.
export function colour(name) {
  const fixed = order.indexOf(name);
  if (fixed >= 0) return `var(--c${[0, 2, 1, 7][fixed]})`;
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return `var(--c${3 + (sum % 4)})`;
}

export function real(variable) {
  const name = variable.match(/--[\w-]+/)?.[0];
  return name ? getComputedStyle(document.documentElement).getPropertyValue(name).trim() : variable;
}

export const HEALTH = { running: "good", starting: "warn", restarting: "warn", ended: "", stopped: "", failed: "bad" };

// How a task is delivered.
export const SENT = { pixels: "regions and pixels", objects: "regions and what moves, without the plate", regions: "regions alone" };

// What the digits of a provenance grid mean (types.Provenance), in the order of the legend.
export const PROVENANCE = [
  { digit: "4", name: "sent", colour: "--sent", says: "came as bits in this frame" },
  { digit: "3", name: "plate", colour: "--plate", says: "the camera's background, sent before" },
  { digit: "2", name: "propagated", colour: "--propagated", says: "an earlier look at the object, moved" },
  { digit: "1", name: "generated", colour: "--generated", says: "a guess of the decoder: not evidence" },
  { digit: "0", name: "missing", colour: "--missing", says: "nothing is known" },
];
