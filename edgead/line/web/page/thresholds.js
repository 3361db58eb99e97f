// The limit of a pipeline on a slider: what it would reject and find among known parts, then a confirmation.

import { get, put } from "./api.js";
import { ask, nameField } from "./dialogs.js";
import { complain, el, scaled, scaledText, score } from "./dom.js";
import { t } from "./words.js";

const NEWEST = 200; // parts of the line
const MAX_POSITION = 300; // of the slider, where 100 is the limit in force

// A field shows few digits; an unchanged number means exactly the old value.
const shown = (value) => String(Number(value.toPrecision(6)));
const meant = (text, before) => (text === shown(before) ? before : Number(text));

export async function changeThresholds(pipeline) {
  if (!pipeline?.thresholds) return;
  const known = await knownParts(pipeline).catch(complain);
  if (known && !document.querySelector("dialog")) open(pipeline, known);
}

// Scores of a model that scores otherwise say nothing about this one's limit; marked parts are scored again.
async function knownParts({ name }) {
  const path = `/api/pipelines/${encodeURIComponent(name)}`;
  const [good, { verdicts }, marked] = await Promise.all([
    get(`${path}/good-scores`), get(`/api/verdicts?limit=${NEWEST}&pipeline=${encodeURIComponent(name)}`), get(`${path}/marked-scores`),
  ]);
  const own = verdicts.filter((verdict) => good.models.includes(verdict.model));
  const newest = own.flatMap((verdict) => verdict.image_score ?? []);
  return { good, newest, others: newest.length ? 0 : verdicts.length - own.length, marked };
}

function open(pipeline, known) {
  const { review, reject } = pipeline.thresholds;
  const scale = { typical_score: known.good.typical_score, threshold: reject };
  const slides = scaled(reject, scale) !== null;
  const number = (name, value) => el("input", { id: name, name, type: "number", step: "any", required: true, value: shown(value) });
  const fields = { review: number("review", review), reject: number("reject", reject) };
  const slider = el("input", { id: "limit", type: "range", min: "0", max: String(MAX_POSITION), value: "100" });
  const level = el("output", { for: "limit" });
  const banded = el("input", { id: "banded", type: "checkbox", checked: review !== reject });
  const ofReview = el("div", {}, el("label", { for: "review" }, t("Review above the raw score")), fields.review);
  const compared = el("tbody", { "aria-live": "polite" });
  const limits = () => {
    const now = meant(fields.reject.value, reject);
    return { reject: now, review: banded.checked ? meant(fields.review.value, review) : now };
  };
  const inForce = carried(pipeline, pipeline.thresholds);
  const show = () => {
    const asked = limits();
    inForce.hidden = asked.reject !== reject || asked.review !== review;
    ofReview.hidden = !banded.checked;
    fields.review.disabled = !banded.checked;
    if (slides) {
      level.textContent = scaledText(scaled(asked.reject, scale));
      slider.setAttribute("aria-valuetext", level.textContent);
    }
    compared.replaceChildren(...rows(known, pipeline.thresholds, asked));
  };
  slider.addEventListener("input", () => {
    const { typical_score: typical } = scale;
    const asked = slider.value === "100" ? reject : typical + (slider.value / 100) * (reject - typical);
    fields.reject.value = shown(asked);
    fields.review.value = shown(Math.min(review, asked));
    show();
  });
  fields.reject.addEventListener("input", () => {
    if (slides) slider.value = Math.round(scaled(limits().reject, scale));
    show();
  });
  fields.review.addEventListener("input", show);
  banded.addEventListener("input", show);
  const head = ["", t("rejected now"), t("rejected then")].map((text) => el("th", { scope: "col" }, text));
  ask({
    title: t("Limits of {pipeline}", { pipeline: pipeline.name }), action: t("Continue"),
    lead: t("They hold from the next part on, and after a restart."),
    fields: [
      slides && el("p", { class: "limit" }, el("label", { for: "limit" }, t("Limit")), level, slider, el("span", { class: "muted" }, t("0 is the typical good part, 100 the limit in force"))),
      el("table", { class: "comparison preview" }, el("thead", {}, el("tr", {}, head)), compared),
      el("div", { class: "row" }, el("div", {}, el("label", { for: "reject" }, t("Reject above the raw score")), fields.reject), ofReview),
      el("label", { class: "check" }, banded, t("Another limit, for review")),
      inForce,
      nameField(),
    ],
    send: ({ by }) => {
      const asked = { ...limits(), by };
      if (asked.review === review && asked.reject === reject) throw new Error(t("Both limits are as they were"));
      if (asked.review > asked.reject) throw new Error(t("The limit for review may not lie above the limit"));
      confirm(pipeline, asked, scale, known.marked);
    },
  });
  show();
}

// Counts of good parts, of the line's and of bad parts: under the limits in force, and under those of the form.
function rows({ good, newest, others, marked }, before, after) {
  const tally = (scores, limits, others = 0) => {
    const apart = others > 0 && t("{number} judged by another model", { number: others });
    if (!scores.length) return apart || t("none yet");
    const above = (limit) => scores.filter((value) => value > limit).length;
    const [reject, stopped] = [above(limits.reject), above(limits.review)];
    const text = t("{reject} of {all}", { reject, all: scores.length });
    return [text, stopped > reject && t("{review} to review", { review: stopped - reject }), apart].filter(Boolean).join(", ");
  };
  const expected = ({ reject }) => {
    const rate = good.false_reject_rates[good.good_scores.filter((value) => value <= reject).length];
    return rate > 0.5 ? t("about {percent} %", { percent: Math.round(100 * rate) }) : t("about 1 in {number}", { number: Math.floor(1 / rate + 1e-9) });
  };
  const row = (name, text) => {
    const [old, now] = [text(before), text(after)];
    return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, old), el("td", { class: old === now ? null : "differs" }, now));
  };
  return [
    good.good_scores.length && row(t("Expected of good parts"), expected),
    row(t("Good images, each scored as if not learnt"), (limits) => tally(good.good_scores, limits)),
    row(t("Newest parts of the line"), (limits) => tally(newest, limits, others)),
    row(t("Parts marked good"), (limits) => tally(marked.good, limits)),
    row(t("Parts marked bad"), (limits) => tally(marked.bad, limits, marked.unknown)),
  ].filter(Boolean);
}

// The page's limits are of a pipeline; a copy of the model's folder has its own.
const carried = ({ model }, { reject, review }) =>
  el("p", { class: "muted" }, t("They hold for this pipeline. The model's folder, and so a copy of it, gets them by {command}", { command: `edgead calibrate ${model} --reject ${reject} --review ${review}` }));

function confirm(pipeline, asked, scale, { bad, unknown }) {
  const { review, reject } = pipeline.thresholds;
  const changed = (before, after) => (before === after ? t("stays {value}", { value: before }) : [el("del", {}, before), " \u2192 ", el("ins", {}, after)]);
  const line = (label, before, after) => el("p", { class: "change" }, `${label} `, changed(before, after));
  const level = asked.reject === reject ? null : scaled(asked.reject, scale);
  const escapes = bad.filter((value) => value > review && value <= asked.review).length;
  // Asked for where the daemon has said why it doubts: given before, it would hide that.
  const why = el("label", { hidden: true }, t("Why, where it lets pass what is stopped now"), el("input", { name: "reason", maxlength: "500" }));
  ask({
    title: t("Change the limits of {pipeline}?", { pipeline: pipeline.name }), action: t("Change limits"), danger: true, done: t("Limits changed"),
    lead: t("Every part from now on is judged by them. {who} stands in the list of changes.", { who: asked.by }),
    fields: [
      level !== null && line(t("Limit"), scaledText(100), scaledText(level)),
      level !== null && el("p", { class: "muted" }, t("This limit is called 100 from then on, so the same part gets another score.")),
      line(t("Reject above"), score(reject), score(asked.reject)),
      (review !== reject || asked.review !== asked.reject) && line(t("Review above"), score(review), score(asked.review)),
      (asked.reject > reject || asked.review > review) && !bad.some((value) => value > review) && el("p", { class: "form-error" }, t("A higher limit lets more defects pass, and no part that is marked bad is stopped now and would show how many.")),
      escapes > 0 && el("p", { class: "form-error" }, t("Parts marked bad that would pass and do not now: {number}", { number: escapes })),
      unknown > 0 && asked.review > review && el("p", { class: "form-error" }, t("Parts marked bad that another model judged, so that nobody knows whether they pass: {number}", { number: unknown })),
      carried(pipeline, asked),
      why,
    ],
    send: async ({ reason }) => {
      try {
        await put(`/api/pipelines/${pipeline.name}/thresholds`, { ...asked, reason: String(reason) });
      } catch (problem) {
        why.hidden = false;
        throw problem;
      }
    },
  });
}
