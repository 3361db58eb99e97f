// Who changed what: the audit as a table.

import { get } from "./api.js";
import { by, el, score, stamp, toast } from "./dom.js";

export async function showChanges() {
  try {
    const rows = await get("/api/audit?limit=200");
    by("audit").replaceChildren(...rows.map(row));
    by("no-changes").hidden = rows.length > 0;
  } catch (problem) {
    toast(problem.message, true);
  }
}

function row(change) {
  const cells = [stamp(change.at), change.by, change.action.replaceAll("_", " "), change.pipeline, shown(change.before), shown(change.after)];
  return el("tr", {}, cells.map((cell) => el("td", {}, cell)));
}

function shown(value) {
  if (value == null) return "—";
  if (typeof value === "number") return score(value);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.slice(0, 3).map(shown).join(" ") + (value.length > 3 ? ` … (${value.length})` : "");
  return Object.entries(value).map(([name, part]) => `${name} ${shown(part)}`).join(", ");
}
