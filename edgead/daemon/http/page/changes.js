// Who changed what: the audit as a table.

import { get } from "./api.js";
import { by, el, say, score, stamp, toast } from "./dom.js";
import { t } from "./words.js";

export async function showChanges() {
  try {
    const rows = await get("/api/audit?limit=200");
    by("audit").replaceChildren(...rows.map(row));
    by("no-changes").hidden = rows.length > 0;
    showChain(await get("/api/audit/chain"));
  } catch (problem) {
    toast(problem.message, true);
  }
}

function showChain(chain) {
  const broken = t("The record of changes is broken: {problem}", { problem: chain.problem });
  const whole = t("The record is whole: {rows} changes, hash of the last one {head}…", { rows: chain.rows, head: chain.head.slice(0, 12) });
  say(by("chain"), chain.rows || !chain.whole ? (chain.whole ? whole : broken) : "");
  by("chain").classList.toggle("form-error", !chain.whole);
}

function row(change) {
  const cells = [stamp(change.at), change.by, change.action.replaceAll("_", " "), change.pipeline, shown(change.before), shown(change.after)];
  return el("tr", {}, cells.map((cell) => el("td", {}, cell)));
}

function shown(value) {
  if (value == null) return "—";
  if (typeof value === "number") return score(value);
  if (typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, part]) => `${name} ${shown(part)}`).join(", ");
}
