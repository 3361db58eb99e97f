// The audit as a table: who changed what.

import { remembered } from "./alarms.js";
import { get } from "./api.js";
import { by, el, say, score, stamp, toast } from "./dom.js";
import { driftReason } from "./reasons.js";
import { t } from "./words.js";

const ACTIONS = {
  thresholds: t("limits"), "swap model": t("model changed"), "roll back model": t("model rolled back"), "roll back on fault": t("model rolled back after a fault"),
  "accept drift": t("drift accepted"), mark_false_reject: t("marked as a false reject"), rename_kind: t("kind renamed"), merge_kinds: t("kinds merged"),
  split_kind: t("kind taken apart"), correct_kind: t("kind corrected"), start_order: t("order started"),
  mark_good: t("marked good"), mark_bad: t("marked bad"), take_back_mark: t("mark taken back"), teach: t("taught"), "accept lesson": t("lesson accepted"),
  "discard lesson": t("lesson discarded"), "name kinds": t("kinds named"), acknowledge: t("notice acknowledged"), pause: t("paused"), resume: t("resumed"),
  "commission model": t("model commissioned"), "send images": t("images of good parts sent"), "change draft": t("draft changed"), "leave image out": t("image left out"), "put image back": t("image put back"), "discard draft": t("draft discarded"), "follow again": t("follows its tag again"), unlock: t("panel unlocked"), unlock_refused: t("unlocking refused"), lock: t("panel locked"),
};
const LABELS = { 4: t("before"), 5: t("after") }; // where there is no place for a head
const NAMES = { name: t("name"), batch: t("batch"), review: t("review"), reject: t("reject"), kind: t("kind"), judged: t("judged to be"), note: t("note"), by: t("by"), reason: t("why"), at: t("at"), verdict: t("mark"), verdicts: t("parts"), bad_parts: t("bad parts"), because: t("why"), state: t("state"), role: t("role"), minutes: t("minutes"), camera: t("camera"), image: t("image"), images: t("images"), model: t("model"), wanted: t("parts wanted"), region: t("region"), ignored: t("places that never count"), drawn_by: t("drawn by") };
// Words of closed lists among the values.
const VALUES = {
  state: { running: t("running"), ready: t("ready"), refused: t("refused"), failed: t("failed") },
  verdict: { good: t("good"), bad: t("bad") },
};

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
  const cells = [change.at ? stamp(change.at) : "", change.by, ACTIONS[change.action] ?? change.action.replaceAll("_", " "), change.pipeline || "—", ...values(change)];
  return el("tr", {}, cells.map((cell, index) => el("td", { "data-label": LABELS[index] }, cell)));
}

function values({ action, before, after }) {
  if (action === "acknowledge") return ["—", remembered(after)];
  if (action === "accept drift" && before) return [driftReason(before), "—"];
  return [shown(before), shown(after)];
}

function shown(value) {
  if (isEmpty(value)) return "—";
  if (typeof value === "number") return score(value);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.slice(0, 3).map(shown).join(" ") + (value.length > 3 ? ` … (${value.length})` : "");
  const given = Object.entries(value).filter(([, part]) => !isEmpty(part));
  return given.map(([name, part]) => `${NAMES[name] ?? name} ${VALUES[name]?.[part] ?? shown(part)}`).join(", ") || "—";
}

// An empty note or list.
const isEmpty = (value) => value == null || value === "" || (Array.isArray(value) && !value.length);
