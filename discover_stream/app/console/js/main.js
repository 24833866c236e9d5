// The frame of all pages: which one is shown, who is signed in, how the system is.

import { api, token } from "./api.js";
import { ask, field, fill, h, repeat, text } from "./dom.js";
import { alertsPage } from "./alerts.js";
import { fleetPage } from "./fleet.js";
import { playerPage } from "./player.js";
import { systemPage } from "./system.js";
import { taskPage } from "./task.js";
import { tasksPage } from "./tasks.js";

const PAGES = [
  ["fleet", "Fleet", fleetPage], ["tasks", "Tasks", tasksPage], ["player", "Player", playerPage],
  ["system", "System", systemPage], ["alerts", "Alerts", alertsPage],
];
// What those may use who may not see everything; the first is where they begin.
const SEEN = { viewer: ["fleet", "player"], subscriber: ["tasks"] };
const main = document.getElementById("main");
const badge = h("span.badge", { hidden: true });
const links = new Map(PAGES.map(([name, words]) => [name, h("a", { href: `#/${name}` }, words, name === "alerts" ? badge : null)]));
let leaving = new AbortController();

export const me = { role: "viewer", open: false, name: "", mayOperate: false, mayAdminister: false };

function place() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  return { name: name || SEEN[me.role]?.[0] || "fleet", rest, options: new URLSearchParams(search ?? "") };
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { name, rest, options } = place();
  const page = name === "tasks" && rest[0] ? taskPage : PAGES.find((each) => each[0] === name)?.[2] ?? fleetPage;
  for (const [each, link] of links) {
    if (each === name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  const words = PAGES.find((each) => each[0] === name)?.[1] ?? "Fleet";
  document.title = `${rest[0] ?? words} · discover-stream`;
  fill(main);
  try {
    await page(main, { signal: leaving.signal, name: rest[0], options, me });
  } catch (error) {
    if (error.name !== "AbortError") fill(main, h("p.problem", { role: "alert" }, error.message));
  }
}

async function who() {
  Object.assign(me, await api.me());
  me.mayOperate = ["admin", "operator"].includes(me.role);
  me.mayAdminister = me.role === "admin";
  const leave = h("button.quiet", { type: "button", onclick: () => { token.set(""); location.reload(); } }, "Sign out");
  const seen = SEEN[me.role] ?? [...links.keys()];
  fill(document.getElementById("nav"), seen.map((name) => links.get(name)));
  fill(document.getElementById("who"), me.open ? "open to this machine" : `${me.name} (${me.role})`, me.open ? null : leave);
}

let asking = null;
window.addEventListener("sign-in", (event) => {
  if (asking) return;
  const secret = h("input", { name: "token", type: "password", autocomplete: "current-password", required: true, placeholder: "dsk_…" });
  const hint = "An administrator makes tokens: discover token make. It is kept until this window is closed.";
  asking = ask("Sign in", [token.get() ? h("p.soft", {}, event.detail) : null, field("Token", secret, hint)], "Sign in", async (data) => {
    token.set(data.get("token").trim());
    await api.me().catch((error) => { token.set(""); throw error; });
    location.reload();
  });
  asking.addEventListener("close", () => { asking = null; });
});

function watchSystem() {
  const state = document.getElementById("state");
  repeat(3000, async () => {
    try {
      const system = await api.system();
      const bad = system.alerts.filter((each) => each.severity === "error").length;
      const words = system.outage ? "log away" : system.live ? (bad ? "needs attention" : "running") : "not running";
      fill(state, h(`span.dot.${system.outage || bad ? "bad" : system.live ? "good" : "warn"}`), words);
      badge.hidden = !system.alerts.length;
      badge.className = bad ? "badge" : "badge warning";
      text(badge, String(system.alerts.length));
    } catch (error) {
      fill(state, h("span.dot.bad"), error.status ? "no access" : "gateway away");
    }
  }, new AbortController().signal);
}

function theme() {
  const root = document.documentElement;
  const set = (value) => {
    if (value) root.dataset.theme = value;
    window.dispatchEvent(new Event("theme"));
  };
  set(localStorage.getItem("discover-theme"));
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    localStorage.setItem("discover-theme", dark ? "light" : "dark");
    set(dark ? "light" : "dark");
  });
}

theme();
window.addEventListener("hashchange", async () => { await show(); main.focus({ preventScroll: true }); });
try {
  await who();
  const staff = !(me.role in SEEN);
  document.getElementById("state").hidden = !staff;
  if (staff) watchSystem();
  await show();
} catch (error) {
  fill(main, h("p.empty", {}, error.status === 401 ? "Sign in to see the fleet." : error.message));
}
