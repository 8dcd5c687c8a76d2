// @ts-check
/** Fleet: the pool as it is, requests as they run, explain, audit. */

import { el, fill } from "../core/dom.js";
import { page } from "../core/frame.js";
import { audit } from "../fleet/audit.js";
import { explain } from "../fleet/explain.js";
import { live, Shares } from "../fleet/live.js";
import { pool } from "../fleet/pool.js";

page(({ content, me }) => {
  const shares = new Shares();
  const parts = { pool: el("div"), live: el("div"), explain: el("div"), audit: el("div") };
  const watches = me.scopes.includes("usage:read");
  fill(content,
    el("section", { "aria-label": "Endpoints" }, parts.pool),
    watches && el("section", null, el("h2", null, "Requests as they run"), parts.live),
    el("section", null, el("h2", null, "Explain"), parts.explain),
    el("section", null, el("div.spread", null, el("h2", null, "Audit"),
      el("button.quiet", { type: "button", onclick: () => audit(parts.audit) }, "Refresh")), parts.audit));
  pool(parts.pool, (model, endpoint) => shares.of(model, endpoint));
  if (watches) live(parts.live, shares);
  explain(parts.explain);
  audit(parts.audit);
});
