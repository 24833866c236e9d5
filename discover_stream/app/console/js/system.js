// Pools and stages: who does the work, and how far behind it is.

import { api } from "./api.js";
import { fill, h, repeat } from "./dom.js";
import { HEALTH, clock, count } from "./words.js";

function pool(each) {
  const most = Math.max(each.wanted, each.running);
  return h("article.card", { "data-pool": each.name }, h("b", {}, each.name),
    h("div.workers", { role: "img", "aria-label": `${each.running} of ${each.wanted} run` }, Array.from({ length: most }, (_, index) => h(index < each.running ? "span.worker.on" : "span.worker"))),
    h("span.soft.small", {}, `${each.running} running${each.wanted === each.running ? "" : `, ${each.wanted} wanted`}${each.detail ? ` · ${each.detail}` : ""}`));
}

export async function systemPage(main, page) {
  const pools = h("div.pools"), body = h("tbody"), facts = h("span.soft");
  const head = ["Stage", "", "Done", "Waiting", "Restarts", "Last error"];
  fill(main, h("div.head", {}, h("h1", {}, "System"), facts), h("h2", {}, "Pools"), pools, h("h2", {}, "Stages"),
    h("div.card", {}, h("table", {}, h("thead", {}, h("tr", {}, head.map((words) => h(["Done", "Waiting", "Restarts"].includes(words) ? "th.num" : "th", {}, words)))), body)));
  await repeat(2000, async () => {
    const system = await api.system(page.signal);
    const since = system.started ? ` · since ${clock(system.started)}` : "";
    fill(facts, `${system.log} · ${system.state}${since} · ${count(system.archived)} packets archived · ${system.dead} dead records`);
    fill(pools, system.pools.length ? system.pools.map(pool) : h("p.soft", { style: "grid-column:1/-1" }, "No pool has told of itself: none was needed yet."));
    const most = Math.max(16, ...system.stages.map((stage) => stage.lag));
    fill(body, system.stages.map((stage) => h("tr", {}, h("td.mono", {}, stage.name),
      h("td", {}, h("span.pill", {}, h(`span.dot.${HEALTH[stage.health] || "none"}`), stage.health)), h("td.num", {}, count(stage.done)),
      h("td.num", {}, h("span.lag", {}, h("i", { style: `width:${(100 * stage.lag) / most}%` })), count(stage.lag)), h("td.num", {}, String(stage.restarts)), h("td.soft.small", {}, stage.error ?? ""))));
    if (!system.stages.length) fill(body, h("tr", {}, h("td.empty", { colspan: head.length }, "No system writes to this log now. Start one: discover run")));
  }, page.signal);
}
