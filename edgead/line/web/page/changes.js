// The audit as sentences, newest first: who did what to which part. Values as they are recorded stand under Details.

import { remembered } from "./alarms.js";
import { get } from "./api.js";
import { by, count, el, modelName, say, scaled, scaledText, stamp, titleOf, toast } from "./dom.js";
import { linkTo } from "./evidence.js";
import { thumb } from "./marking.js";
import { driftReason, uninspected } from "./reasons.js";
import { t } from "./words.js";

// Each takes `who`, `before`, `after` and `part`, the name of a part.
const SENTENCES = {
  thresholds: limits,
  "swap model": ({ who, before, after }) => model(after) === model(before) ? t("{who} put another version of “{model}” into service", { who, model: model(after) }) : t("{who} put “{model}” into service in place of “{before}”", { who, model: model(after), before: model(before) }),
  "roll back model": ({ who, before, after }) => model(after) === model(before) ? t("{who} rolled “{model}” back to an earlier version", { who, model: model(after) }) : t("{who} rolled the model back from “{before}” to “{model}”", { who, model: model(after), before: model(before) }),
  "roll back on fault": ({ before, after }) => t("“{before}” had a fault: “{model}” judges again", { model: model(after), before: model(before) }),
  "commission model": ({ who, after }) => t("{who} kept the model “{model}”, learnt from {images} good parts of camera {camera}", { who, ...after, model: model(after.model) }),
  "accept drift": ({ who, before }) => withNote(t("{who} accepted the drift", { who }), before && driftReason(before)),
  "follow again": ({ who, after }) => t("{who} let the pipeline follow its tag again: {tag}", { who, tag: after }),
  mark_good: ({ who, part, after }) => withNote(t("{who} marked {part} as good", { who, part }), after.note),
  mark_bad: ({ who, part, after }) => withNote(t("{who} marked {part} as bad", { who, part }), after.note),
  mark_false_reject: ({ who, part, after }) => withNote(t("{who} marked {part} as a false reject", { who, part }), after.note),
  take_back_mark: ({ who, part }) => t("{who} took back the mark of {part}", { who, part }),
  rename_kind: ({ who, before, after }) => t("{who} renamed the kind “{kind}” to “{name}”", { who, kind: before, name: after }),
  merge_kinds: ({ who, before, after }) => t("{who} merged the kind “{kind}” into “{name}”", { who, kind: before, name: after }),
  split_kind: ({ who, before, after }) => t("{who} took “{judged}” out of the kind “{kind}”, as “{name}”", { who, ...before, name: after ?? before.judged }),
  correct_kind: ({ who, part, after }) => (after.kind ? t("{who} set the kind of {part} to {kind}", { who, part, kind: after.kind }) : t("{who} took back the kind of {part}", { who, part })),
  "name kinds": ({ who, after }) => t("{who} taught the model to name {kinds}", { who, kinds: Object.keys(after).join(", ") }),
  start_order: ({ who, after }) => withNote(t("{who} began the order {name}", { who, name: after.name || "—" }), after.batch && t("batch {batch}", after)),
  teach: (change) => lesson(change, t("{who} began a lesson (good parts: {good}, bad parts: {bad})", taught(change))),
  "accept lesson": (change) => lesson(change, t("{who} accepted a lesson (good parts: {good}, bad parts: {bad})", taught(change))),
  "discard lesson": (change) => lesson(change, t("{who} discarded a lesson (good parts: {good}, bad parts: {bad})", taught(change))),
  acknowledge: ({ who, after }) => withNote(t("{who} acknowledged a notice", { who }), remembered(after)),
  pause: ({ who, after }) => withNote(after.minutes ? t("{who} paused for {minutes} min", { who, minutes: after.minutes }) : t("{who} paused", { who }), after.reason),
  resume: ({ who, after }) => withNote(t("{who} resumed", { who }), uninspected(after?.uninspected)),
  "send images": ({ who, after }) => withNote(t("{who} sent images of good parts", { who }), after),
  "change draft": ({ who, after }) => t("{who} changed the draft of camera {camera}", { who, ...after }),
  "leave image out": ({ who, after }) => t("{who} left an image out of the draft of camera {camera}", { who, ...after }),
  "put image back": ({ who, after }) => t("{who} put an image back into the draft of camera {camera}", { who, ...after }),
  "discard draft": ({ who, before }) => t("{who} discarded the draft of camera {camera} with {images} images", { who, ...before }),
  unlock: ({ who, after }) => t("{who} unlocked a panel for {minutes} min", { who, ...after }),
  unlock_refused: ({ who }) => t("{who} was refused at a locked panel", { who }),
  lock: ({ who }) => t("{who} locked a panel", { who }),
};

// Path and hash stand under Details.
const model = (text) => modelName(String(text).replace(/ \([0-9a-f]+\)$/, ""));
const withNote = (sentence, note) => (note ? `${sentence}: ${note}` : sentence);
const taught = ({ who, after }) => ({ who, good: count(after.verdicts.length), bad: count(after.bad_parts) });
const lesson = ({ after }, sentence) => withNote(sentence, after.because);

// 100 is the limit before the change.
function limits({ who, before, after }) {
  const scale = { typical_score: before.typical_score, threshold: before.reject };
  const limit = scaled(after.reject, scale);
  const direction = after.reject > before.reject ? t("{who} raised the limit", { who }) : after.reject < before.reject ? t("{who} lowered the limit", { who }) : t("{who} changed from where on parts go to review", { who });
  const moved = limit === null || limit === 100 ? direction : t("{who} set the limit from 100 to {limit}", { who, limit: scaledText(limit) });
  const review = after.review < after.reject && scaled(after.review, scale);
  return withNote(review ? `${moved}, ${t("review above {limit}", { limit: scaledText(review) })}` : moved, after.reason);
}

let loaded = 0;

export async function showChanges() {
  const mine = ++loaded;
  try {
    const changes = await get("/api/audit?limit=200");
    const rows = changes.map((change) => row(change));
    by("audit").replaceChildren(...rows);
    by("no-changes").hidden = rows.length > 0;
    showChain(await get("/api/audit/chain"));
    for (const [index, change] of changes.entries()) {
      const id = change.after?.id ?? change.before?.id;
      const part = id && (await get(`/api/verdicts/${encodeURIComponent(id)}?pipeline=${encodeURIComponent(change.pipeline)}`).catch(() => null)); // its record may be gone
      if (mine !== loaded || by("changes").hidden) return;
      if (part) rows[index].replaceWith(row(change, part));
    }
  } catch (problem) {
    toast(problem.message, true);
  }
}

function showChain(chain) {
  const whole = t("The record is whole: {rows} changes, hash of the last one {head}…", { rows: chain.rows, head: chain.head.slice(0, 12) });
  say(by("chain"), chain.whole ? (chain.rows ? whole : "") : t("The record of changes is broken: {problem}", { problem: chain.problem }));
  by("chain").classList.toggle("form-error", !chain.whole);
}

function row(change, part = null) {
  const recorded = { by: change.by, action: change.action, before: change.before, after: change.after };
  const more = el("details", {}, el("summary", {}, t("Details")), el("code", {}, JSON.stringify(recorded)));
  const image = part && el("a", { href: `#${linkTo(part)}`, "aria-label": t("Evidence of {part}", { part: titleOf(part) }) }, thumb(part));
  return el("tr", {}, [change.at ? stamp(change.at) : "", [image, sentence(change, part), more], change.pipeline || "—"].map((cell) => el("td", {}, cell)));
}

// A change that failed after its row has a second one, which leads back.
function sentence({ by: full, action, before, after }, part) {
  const [does, undone] = action.split(", ");
  if (undone) return t("Failed, and taken back: {change}", { change: sentence({ by: full, action: does, before: after, after: before }, part) });
  const who = full.replace(/ \([^()]*\)$/, "") || full; // the address stands under Details
  const otherwise = withNote(who, action.replaceAll("_", " "));
  if (!Object.hasOwn(SENTENCES, action)) return otherwise;
  try {
    return SENTENCES[action]({ who, before, after, part: part ? titleOf(part) : t("a part") });
  } catch (problem) {
    console.warn(problem); // a row of another version may lack what its sentence takes
    return otherwise;
  }
}
