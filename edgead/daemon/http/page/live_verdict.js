// What stands large: the verdict as a surface in its colour, with its shape and its word, and how near the score is to the limit.

import { WORDS, beyond, by, count, el, kindOf, limitShare, percent, say, score, span, titleOf } from "./dom.js";
import { t } from "./words.js";

const OLD_S = 3;
const STATES = { starting: t("Starting"), fault: t("Fault"), stopped: t("Stopped") };

// Never a decision of a pipeline that does not run, or of a device that does not answer: look, word, note.
function headline({ lost, state, verdict, names, now }) {
  if (lost) return ["fault", t("No connection"), t("The device does not answer; nothing here is live")];
  if (!state) return ["none", t("Waiting"), ""];
  if (state.state !== "running") return ["fault", STATES[state.state], state.reason || ""];
  if (!verdict) return ["none", t("Waiting"), state.on_request ? t("Waits for a trigger") : t("No verdict yet")];
  const age_s = Math.max(0, (now - new Date(verdict.captured_at)) / 1000);
  const about = [titleOf(verdict), kindOf(verdict, names), age_s >= OLD_S && t("{time} ago", { time: span(Math.round(age_s)) })];
  return [verdict.decision, WORDS[verdict.decision], about.filter(Boolean).join(", ")];
}

export function showVerdict(shown) {
  const [look, word, note] = headline(shown);
  const { state, verdict } = shown;
  const box = by("verdict");
  box.dataset.decision = look;
  box.querySelector("use").setAttribute("href", `#i-${look}`);
  say(by("word"), word);
  box.style.setProperty("--letters", word.length);
  say(by("verdict-note"), note);
  const judged = look === verdict?.decision;
  const share = judged ? limitShare(verdict) : null;
  by("score").parentElement.hidden = !judged;
  say(by("score"), share ?? score(verdict?.image_score));
  say(by("score-unit"), share === null ? t("score") : t("of the limit"));
  showGauge(share === null ? null : verdict);
  showTally(state);
  showDetails(state, verdict);
}

function showGauge(verdict) {
  const gauge = by("gauge");
  gauge.hidden = verdict === null;
  if (gauge.hidden) return;
  const most = Math.max(verdict.threshold * 1.5, verdict.image_score * 1.05);
  const place = (value) => `${Math.min(100, Math.max(0, (100 * value) / most))}%`;
  gauge.querySelector(".reach").style.width = place(verdict.image_score);
  gauge.querySelector(".mark.review").hidden = beyond(verdict.review_threshold);
  gauge.querySelector(".mark.review").style.left = place(verdict.review_threshold);
  gauge.querySelector(".mark.reject").style.left = place(verdict.threshold);
}

function showTally(state) {
  const total = Object.values(state?.decisions ?? {}).reduce((sum, value) => sum + value, 0);
  for (const cell of by("tally").children) {
    const value = state?.decisions[cell.dataset.decision] ?? 0;
    const share = total ? percent(value, total) : "";
    const shown = cell.querySelector("dd");
    if (shown.dataset.value === `${value} ${share}`) continue;
    shown.dataset.value = `${value} ${share}`;
    shown.replaceChildren(count(value), el("small", {}, share));
  }
}

function showDetails(state, verdict) {
  say(by("raw-score"), score(verdict?.image_score));
  say(by("review-threshold"), score(state?.thresholds?.review));
  say(by("reject-threshold"), score(state?.thresholds?.reject));
}
