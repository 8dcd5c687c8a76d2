// @ts-check
/** What one has used: totals, what is left of each limit, by day, and single requests. */

import { api } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { page } from "../core/frame.js";
import { load } from "../core/loading.js";
import { asked } from "../reports/asked.js";
import { limitBars } from "../reports/limits.js";
import { receipts } from "../reports/receipts.js";
import { daysQuery, report, requestsOf } from "../reports/report.js";

const GROUPS = ["model", "key", "endpoint"];

page(({ content, me }) => {
  const limits = el("div", null);
  const whole = el("div", null);
  const requests = el("section", { "aria-label": "Requests" });
  fill(content, limits, whole, requests);

  function draw() {
    const wanted = asked(GROUPS);
    if (wanted.only === null) receipts(requests, daysQuery(wanted)); // of all: no need to wait for the report
    report(whole, wanted, {
      path: "/api/ai/usage", groups: GROUPS, currency: me.currency,
      empty: ["Nothing used", "In these days nothing was asked. Ask something in Chat, or make a key for a program."],
      onOnly: (series) => {
        if (wanted.only === null) return;
        const filters = requestsOf(series, wanted.by);
        if (filters === null) fill(requests);
        else receipts(requests, { ...daysQuery(wanted), ...filters });
      },
    });
  }

  addEventListener("popstate", draw);
  load(limits, () => api("/api/ai/my-models"), (models) => fill(limits, limitBars(models, me.currency)));
  draw();
});
