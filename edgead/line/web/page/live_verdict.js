// The verdict in large: a surface in its colour, with its shape and word, and the distance of the score to the limit.

import { WORDS, beyond, by, count, el, kindOf, percent, say, scaled, score, scoreText, span, titleOf } from "./dom.js";
import { pipelineReason, unaskedBy, uninspected } from "./reasons.js";
import { t } from "./words.js";

const OLD_S = 3;
const STATES = { paused: t("Paused"), starting: t("Starting"), fault: t("Fault"), stopped: t("Stopped") };

// Colour, word and note; never a decision while the pipeline does not run or the device does not answer.
function headline({ lost, state, verdict, names, now }) {
  if (lost) return ["fault", t("No connection"), t("The device does not answer; nothing here is live")];
  if (!state) return ["none", t("Waiting"), ""];
  if (state.state === "paused") return ["none", STATES.paused, `${pipelineReason(state.reason)}. ${t("Parts go by uninspected.")}`];
  if (state.state !== "running") return ["fault", STATES[state.state], pipelineReason(state.reason) || ""];
  if (!verdict) return ["none", t("Waiting"), state.on_request ? t("Waits for a trigger") : t("Waits for the first image")];
  const age_s = Math.max(0, (now - Date.parse(verdict.captured_at)) / 1000);
  const about = [titleOf(verdict), kindOf(verdict, names), age_s >= OLD_S && t("{time} ago", { time: span(Math.round(age_s)) })];
  return [verdict.decision, WORDS[verdict.decision], about.filter(Boolean).join(", ")];
}

export function showVerdict(shown) {
  const [look, word, note] = headline(shown);
  const { state, shift, verdict, sent } = shown;
  const box = by("verdict");
  box.dataset.decision = look;
  box.querySelector("use").setAttribute("href", `#i-${look}`);
  say(by("word"), word);
  box.style.setProperty("--letters", word.length);
  say(by("verdict-note"), note);
  const judged = look === verdict?.decision;
  const said = judged ? saidOf(sent) : "";
  by("verdict-sent").hidden = !said;
  say(by("verdict-sent"), said);
  const level = judged ? (verdict.score ?? null) : null;
  by("score").parentElement.hidden = !judged;
  say(by("score"), judged ? scoreText(verdict) : "");
  say(by("score-unit"), level === null ? t("score") : t("limit 100"));
  showGauge(level, verdict);
  showTally(state, shift);
  showDetails(state, verdict);
}

// Reasons to trust the verdict of a sent image less.
function saidOf(sent) {
  const shape = sent?.shape;
  return [
    sent?.learnt && t("This image was learnt by this model: its score says nothing of new parts"),
    shape && t("{given} pixels where the model learnt {learnt}: the image was squeezed, the verdict may be wrong", { given: `${shape.width} × ${shape.height}`, learnt: `${shape.learnt_width} × ${shape.learnt_height}` }),
  ].filter(Boolean).join(". ");
}

function showGauge(level, verdict) {
  const gauge = by("gauge");
  gauge.hidden = level === null;
  if (gauge.hidden) return;
  const most = Math.max(150, level * 1.05);
  const place = (value) => `${Math.min(100, Math.max(0, (100 * value) / most))}%`;
  const review = scaled(verdict.review_threshold, verdict);
  gauge.querySelector(".reach").style.width = place(level);
  gauge.querySelector(".mark.review").hidden = review === null || beyond(verdict.review_threshold);
  gauge.querySelector(".mark.review").style.left = place(review);
  gauge.querySelector(".mark.reject").style.left = place(100);
}

// Shows the shift's counters if there are any: counters of two periods would contradict each other.
function showTally(state, shift) {
  const judged = Object.values(state?.decisions ?? {}).reduce((sum, value) => sum + value, 0);
  const counted = shift ?? { ...state?.decisions, inspected: judged };
  for (const cell of by("tally").querySelectorAll("dl > div")) {
    const value = counted[cell.dataset.decision] ?? 0;
    const share = counted.inspected ? percent(value, counted.inspected) : "";
    const shown = cell.querySelector("dd");
    if (shown.dataset.value === `${value} ${share}`) continue;
    shown.dataset.value = `${value} ${share}`;
    shown.replaceChildren(count(value), el("small", {}, share));
  }
  const { late = 0, missed = 0 } = state ?? {};
  const bad = [missed > 0 && t("{number} without a verdict", { number: count(missed) }), late > 0 && t("{number} late", { number: count(late) })].filter(Boolean).join(", ");
  say(by("tally-note"), bad ? t("Since the start: {bad}, of {frames}", { bad, frames: count(judged + missed) }) : shift ? t("This shift") : t("Since the start"));
  by("tally-note").toggleAttribute("data-bad", bad !== "");
  const passed = [uninspected(shift?.paused ?? state?.uninspected), state?.unasked && unaskedBy(state)].filter(Boolean);
  by("tally-trigger").hidden = !passed.length;
  say(by("tally-trigger"), passed.join(". "));
}

function showDetails(state, verdict) {
  say(by("raw-score"), score(verdict?.image_score));
  say(by("review-threshold"), limitText(state?.thresholds?.review, verdict?.review_threshold));
  say(by("reject-threshold"), limitText(state?.thresholds?.reject, verdict?.threshold));
}

// The limit in force; with that of the shown part where another one has judged it, whose score stands beside it.
const limitText = (now, then) => (then == null || now == null || then === now ? score(now) : t("{now}, for this part {then}", { now: score(now), then: score(then) }));
