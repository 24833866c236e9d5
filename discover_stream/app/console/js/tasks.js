// All tasks: on or off, how many labels, what they are sent.

import { api } from "./api.js";
import { ask, field, fill, h, repeat, toast } from "./dom.js";
import { spark } from "./plots.js";
import { SENT, colour, rate } from "./words.js";

export function linesOf(value) {
  return value.split(/[\n,]/).map((line) => line.trim()).filter(Boolean);
}

function addTask(tasks) {
  const off = tasks.filter((task) => !task.on && !task.asking);
  const kinds = [["described", "Describe it: a language model names what matters to it, once"], ["own", "Labels of my own"],
    ...(off.length ? [["known", "One that is known already"]] : [])];
  const parts = {
    described: [field("Name", h("input", { name: "name", pattern: "[a-z0-9\\-]{1,40}", placeholder: "from the description", autocomplete: "off" })),
      field("Description", h("textarea", { name: "description", rows: 3, placeholder: "count delivery vans that block the bus lane" }))],
    own: [field("Name", h("input", { name: "own-name", pattern: "[a-z0-9\\-]{1,40}", autocomplete: "off" })),
      field("Description", h("input", { name: "own-description", autocomplete: "off" })),
      field("Labels", h("textarea", { name: "labels", rows: 9 }), "At least 100, one a line or with commas between.")],
    known: [field("Task", h("select", { name: "known" }, off.map((task) => h("option", {}, task.name))))],
  };
  const hosts = Object.entries(parts).map(([name, fields]) => h("div", { "data-kind": name, hidden: name !== "described" }, fields));
  const choose = (name) => hosts.forEach((host) => { host.hidden = host.dataset.kind !== name; });
  const radios = h("fieldset", {}, h("legend", {}, "Where its labels come from"), kinds.map(([name, words], index) => h("div", {}, h("label.check", {},
    h("input", { type: "radio", name: "kind", value: name, checked: index === 0, onchange: () => choose(name) }), words))));
  const deliver = field("It is sent", h("select", { name: "deliver" }, h("option", { value: "pixels" }, "regions and pixels"), h("option", { value: "objects" }, "regions and what moves, without the plate"), h("option", { value: "regions" }, "regions alone, which cost far less")));
  ask("Add a task", [radios, hosts, deliver], "Add task", async (data) => {
    const kind = data.get("kind"), order = { deliver: data.get("deliver") };
    if (kind === "known") order.name = data.get("known");
    if (kind === "described") {
      if (data.get("name")) order.name = data.get("name");
      order.description = data.get("description").trim();
      if (!order.description) throw new Error("Say in words what the task is about.");
    }
    if (kind === "own") {
      order.name = data.get("own-name");
      order.labels = linesOf(data.get("labels"));
      if (data.get("own-description")) order.description = data.get("own-description");
      if (!order.name) throw new Error("Give the task a name.");
    }
    const made = await api.addTask(order);
    toast(made.asking ? `A language model is asked for the labels of ${made.name}.` : `Task ${made.name} is on.`);
    location.hash = `#/tasks/${encodeURIComponent(made.name)}`;
  });
}

export async function tasksPage(main, page) {
  const body = h("tbody"), head = ["Task", "Description", "Labels", "Is sent", "Last ten minutes", "kbit/s", ""];
  fill(main,
    h("div.head", {}, h("h1", {}, "Tasks"), h("span.space"), page.me.mayOperate ? h("button.main", { type: "button", id: "add-task", onclick: async () => addTask(await api.tasks(page.signal)) }, "+ Add task") : null),
    h("div.card", {}, h("table", {}, h("thead", {}, h("tr", {}, head.map((words) => h(words === "kbit/s" || words === "Labels" ? "th.num" : "th", {}, words)))), body)));
  await repeat(3000, async () => {
    const [tasks, substreams, history] = await Promise.all([api.tasks(page.signal), api.substreams({}, page.signal), api.history({ seconds: 600 }, page.signal)]);
    const row = (task) => {
      const now = substreams.filter((each) => each.task === task.name).reduce((sum, each) => sum + each.kbps, 0);
      const lines = history.series.filter((each) => each.task === task.name).map((each) => each.kbps);
      const sum = lines.length ? lines[0].map((_, index) => lines.reduce((total, line) => total + (line[index] ?? 0), 0)) : [];
      const href = `#/tasks/${encodeURIComponent(task.name)}`;
      const state = task.asking ? h("span.pill.pulse", {}, "asking a language model") : task.problem ? h("span.pill", {}, h("span.dot.bad"), "no labels") : task.on ? h("span.pill", {}, h("span.dot.good"), "on") : h("span.pill", {}, h("span.dot"), "off");
      const turn = page.me.mayOperate && !task.asking && task.labels > 0 ? h("button.quiet", { type: "button", "aria-label": `${task.on ? "Turn off" : "Turn on"} task ${task.name}`, onclick: async (event) => {
        event.stopPropagation();
        try { await (task.on ? api.removeTask(task.name) : api.addTask({ name: task.name })); toast(`Task ${task.name} is ${task.on ? "off; its labels stay" : "on"}.`); } catch (error) { toast(error.message, true); }
      } }, task.on ? "Turn off" : "Turn on") : null;
      return h("tr.go", { "data-task": task.name, onclick: () => { location.hash = href; } },
        h("td", {}, h("span.swatch", { style: `background:${colour(task.name)};margin-right:.5rem` }), h("a", { href }, h("b", {}, task.name))),
        h("td.soft", {}, task.description), h("td.num", {}, String(task.labels)),
        h("td", {}, SENT[task.deliver], task.tags ? ", tags" : ""),
        h("td", {}, sum.length > 1 ? spark(sum, colour(task.name), { label: `kbit/s of ${task.name}` }) : null),
        h("td.num", { "data-rate": task.name }, task.on ? rate(now) : "–"), h("td", {}, h("span", { style: "display:flex;gap:.4rem;justify-content:end" }, turn, state)));
    };
    const focused = document.activeElement?.closest?.("tr")?.dataset.task, which = document.activeElement?.tagName;
    fill(body, tasks.map(row));
    if (focused) body.querySelector(`tr[data-task="${CSS.escape(focused)}"] ${which === "BUTTON" ? "button" : "a"}`)?.focus();
    if (!tasks.length) fill(body, h("tr", {}, h("td.empty", { colspan: head.length }, "No task yet.")));
  }, page.signal);
}
