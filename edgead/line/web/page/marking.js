// Marks of people on parts: good or bad, whatever the verdict. Marked parts are kept without loss, for teaching.

import { get, me, post } from "./api.js";
import { ask, nameField, remembered } from "./dialogs.js";
import { badge, clock, complain, el, scoreText, stamp, titleOf, toast } from "./dom.js";
import { t } from "./words.js";

const LISTED = 8;

export const opinionOf = (verdict) => verdict.mark?.verdict ?? null;
export const OPINIONS = { good: t("marked good"), bad: t("marked bad") };

// The best image of a verdict, small if possible.
export function thumb(verdict) {
  const kept = ["frame.jpg", "frame.png"].find((name) => verdict.images.includes(name));
  const path = kept ? `images/${kept}?pipeline=${verdict.pipeline}` : verdict.recent && "recent?width=320";
  if (!path) return el("span", { class: "no-thumb" }, t("no image"));
  return el("img", { src: `/api/verdicts/${verdict.id}/${path}`, alt: "", loading: "lazy" });
}

export function recentImage(verdict) {
  return el("div", { class: "frame" }, el("img", { src: `/api/verdicts/${verdict.id}/recent`, alt: t("The part, as it is still in memory") }));
}

const key = (letter) => el("kbd", { "aria-hidden": "true" }, letter);

const isFalseReject = (verdict, opinion) => opinion === "good" && verdict.decision !== "ok";

// Buttons beside a part's images; `say` is called with what the part was.
export function markButtons(verdict, say) {
  const mark = opinionOf(verdict);
  const good = el("button", { "data-needs": "operate", onclick: () => say("good") }, mark === "good" ? t("Marked good: change the note") : t("This part was good"), key("G"));
  const bad = el("button", { "data-needs": "operate", onclick: () => say("bad") }, mark === "bad" ? t("Marked bad: change the note") : t("This part was bad"), key("B"));
  return [good, bad, mark && el("button", { "data-needs": "operate", onclick: () => takeBack(verdict) }, t("Take the mark back"))];
}

export function markNote(verdict) {
  if (!verdict.mark || verdict.false_reject) return null;
  const { verdict: opinion, by, at, note } = verdict.mark;
  const said = opinion === "bad" ? t("Bad, says {who}, {time}", { who: by, time: stamp(at) }) : t("Good, says {who}, {time}", { who: by, time: stamp(at) });
  return el("p", { class: "marked-note" }, note ? `${said}: ${note}` : said);
}

// Marks without a dialog once the name is known, for a key that is pressed fifty times. False if no name is given.
export async function markAtOnce(verdict, opinion) {
  const who = me().name || remembered();
  if (!who) return askAbout(verdict, opinion);
  const said = { by: who, note: "", pipeline: verdict.pipeline };
  if (isFalseReject(verdict, opinion)) await post(`/api/verdicts/${verdict.id}/false-reject`, said);
  else await post(`/api/verdicts/${verdict.id}/mark`, { ...said, verdict: opinion });
  return true;
}

const oneLine = (note = "") => note.replaceAll(/\s+/g, " ");

async function send(verdict, opinion, values) {
  const answer = await post(`/api/verdicts/${verdict.id}/mark`, { verdict: opinion, by: values.by, note: oneLine(values.note), pipeline: verdict.pipeline });
  if (opinion && !answer.lossless) toast(t("{part} marked. Its frame is no longer in memory: only what was kept as JPEG is there to be taught.", { part: titleOf(verdict) }));
  else toast(opinion ? t("{part} marked, and its frame is kept without loss", { part: titleOf(verdict) }) : t("{part}: the mark is taken back", { part: titleOf(verdict) }));
}

export function askAbout(verdict, opinion) {
  const [bad, wrong] = [opinion === "bad", isFalseReject(verdict, opinion)];
  return ask({
    title: bad ? t("Was this part bad?") : t("Was this part good?"), done: wrong ? t("Marked as a false reject") : "",
    action: bad ? t("Mark as bad") : wrong ? t("Mark as false reject") : t("Mark as good"),
    lead: bad
      ? t("It tests every lesson: none may let it pass. Three or more become known defects. The verdict itself stays on record.")
      : wrong
      ? t("It is marked as a false reject, for whoever calibrates or teaches the model. The verdict itself stays on record.")
      : t("It is kept as an example of a good part. The verdict itself stays on record."),
    fields: [nameField(), el("label", { for: "note" }, t("Note")), el("textarea", { id: "note", name: "note", rows: "2", maxlength: "500" })],
    send: ({ by, note }) => (wrong ? post(`/api/verdicts/${verdict.id}/false-reject`, { by, note: oneLine(note), pipeline: verdict.pipeline }) : send(verdict, opinion, { by, note })),
  });
}

function takeBack(verdict) {
  ask({
    title: t("Take the mark back?"), action: t("Take it back"),
    lead: t("The part is neither good nor bad then, for whoever teaches the model."),
    fields: nameField(),
    send: (values) => send(verdict, null, values),
  });
}

// The last parts of a line, held still while people mark them.
export async function markRecent(pipeline) {
  const page = await get(`/api/verdicts?limit=${LISTED}&pipeline=${encodeURIComponent(pipeline)}`).catch(complain);
  if (!page) return;
  const rows = page.verdicts.map((verdict) => recentRow(verdict));
  ask({
    title: t("Which of the last parts?"), action: t("Mark"),
    lead: t("Choose what a part was, whatever was decided. Parts that are not chosen stay unmarked."),
    fields: [nameField(), el("ol", { class: "recent-parts" }, rows.length ? rows : el("li", { class: "empty" }, t("No verdict yet")))],
    send: async (values) => {
      const chosen = page.verdicts.filter((verdict) => ![undefined, opinionOf(verdict)].includes(values[`mark-${verdict.id}`]));
      if (!chosen.length) throw new Error(t("Choose good or bad for at least one part"));
      for (const verdict of chosen) await send(verdict, values[`mark-${verdict.id}`], values);
    },
  });
}

function recentRow(verdict) {
  const name = `mark-${verdict.id}`;
  const choice = (opinion, label) => el("label", { class: "choice", "data-opinion": opinion }, el("input", { type: "radio", name, value: opinion, checked: opinionOf(verdict) === opinion }), label);
  return el(
    "li", {},
    thumb(verdict),
    el("div", {}, badge(verdict.decision), el("p", { class: "muted" }, `${titleOf(verdict)} · ${clock(verdict.captured_at)}`), el("p", { class: "muted" }, scoreText(verdict))),
    el("div", { class: "choices", role: "radiogroup", "aria-label": titleOf(verdict) }, choice("good", t("Good")), choice("bad", t("Bad"))),
  );
}
