// What somebody should look at, the worst first.

import { api } from "./api.js";
import { fill, h, repeat } from "./dom.js";
import { clock } from "./words.js";

export async function alertsPage(main, page) {
  const list = h("div.alerts", { role: "log", "aria-live": "polite" });
  fill(main, h("div.head", {}, h("h1", {}, "Alerts")), list);
  await repeat(3000, async () => {
    const { alerts } = await api.system(page.signal);
    const order = [...alerts].sort((a, b) => (a.severity === "error" ? 0 : 1) - (b.severity === "error" ? 0 : 1));
    fill(list, order.length ? order.map((alert) => h(`article.card.alert.${alert.severity}`, {},
      h("span.pill", {}, h(`span.dot.${alert.severity === "error" ? "bad" : "warn"}`), alert.severity), h("div", {}, h("b", {}, alert.what), h("p", { style: "margin:0" }, alert.text)),
      h("span.soft.small", {}, alert.since ? `since ${clock(alert.since)}` : ""))) : h("div.card.empty", {}, "Nothing needs attention."));
  }, page.signal);
}
