// Result of learning: the limit and its meaning, the conspicuous parts with their heat maps, and the way into service.

import { get, post } from "./api.js";
import { ask, field, nameField } from "./dialogs.js";
import { by, el, modelName, ms, say, scaledText } from "./dom.js";
import { partName } from "./wall.js";
import { t } from "./words.js";

export const oneIn = (rate) => Math.round(1 / rate);
const MAX_USUAL = 8; // parts that are shown beside the odd ones
const LOOKED_AT = 5; // of these, as `edgead train` names them: no rule finds faint defects among good parts

export function showResult(view, draft) {
  const { result } = draft;
  by("commission-result").hidden = result === null;
  if (!result) return;
  by("commission-stale").hidden = !draft.stale;
  by("commission-go").disabled = draft.stale || draft.state === "learning";
  by("commission-go").onclick = () => go(view, draft);
  const key = JSON.stringify([draft.camera, draft.begun_at, result, draft.images, draft.pipelines]);
  if (by("commission-found").dataset.of === key) return;
  by("commission-found").dataset.of = key;
  by("commission-words").replaceChildren(...words(draft).map((text) => el("li", {}, text)));
  const odd = result.parts.filter((part) => part.odd);
  const usual = result.parts.filter((part) => !part.odd).slice(0, MAX_USUAL);
  by("commission-odd-part").hidden = odd.length === 0;
  by("commission-odd").replaceChildren(...odd.map((part) => tile(view, draft, part)));
  by("commission-usual").replaceChildren(...usual.map((part, index) => tile(view, draft, part, index < LOOKED_AT)));
}

// As `edgead train` says it.
function guarantee({ false_reject_rate, calibrated, groups }) {
  const of = { number: oneIn(false_reject_rate), percent: Number((100 * false_reject_rate).toPrecision(3)), count: groups || calibrated };
  return groups
    ? t("About 1 good part in {number} will be rejected (about {percent} %, from {count} groups of images that show one part or batch each, scored by what was learnt from the others).", of)
    : t("About 1 good part in {number} will be rejected (about {percent} %, from {count} images, each scored by what was learnt from the others).", of);
}

// A few parts are above the limit by its construction, which is no fault of theirs or of the model.
function above({ parts, false_reject_rate, review }) {
  const found = parts.filter((part) => part.scaled_score > 100).length;
  const lying = t("{found} of these {count} good parts lie above the limit, as about {expected} good ones may.", { found, count: parts.length, expected: Math.round(false_reject_rate * parts.length) });
  return review < 100 ? `${lying} ${t("Above a score of {review} a part goes to review.", { review: scaledText(review) })}` : lying;
}

export function unlike({ parts }) {
  const number = parts.filter((part) => part.odd).length;
  return number > 0 && t("Parts unlike the others were learnt: {number}. If they are bad, or another product, the limit is too loose and such parts pass: take them out, and learn again.", { number });
}

// Where no defect is ever found.
export const unseen = ({ region, ignored }) => [ignored.length && t("Ignored places: {number}. A defect in one is never found.", { number: ignored.length }), region && t("A defect outside the region is never found.")].filter(Boolean);

function words(draft) {
  const { result, pipelines, next_rate, next_parts, preset } = draft;
  const said = [
    unlike(result), // above the guarantee that it would make wrong
    guarantee(result),
    above(result),
    ...unseen(draft),
    t("Learnt from {learnt} images. The limit comes from {calibrated}, each scored by what was learnt from the others.", result),
    t("Preset {preset}, {how}. Step 5 shows whether it sees your defects.", { preset: result.preset, how: preset === "auto" ? t("chosen by the time of a frame on this machine") : t("as asked for") }),
  ].filter(Boolean);
  if (next_rate && next_rate < result.false_reject_rate) said.push(t("For 1 in {number}, collect {parts} parts in all and learn again.", { number: oneIn(next_rate), parts: next_parts }));
  if (result.blurred.length) said.push(t("Blurred images: {names}. Take them out, and learn again.", { names: result.blurred.map((name) => partName(draft, name)).join(", ") }));
  const budgets = pipelines.filter((pipeline) => pipeline.budget_ms);
  const took = t("{ms} ms a part, on one core of this machine", { ms: ms(result.frame_ms) });
  said.push(budgets.length ? `${took}; ${budgets.map(({ name, budget_ms }) => t("{name} allows {ms} ms", { name, ms: ms(budget_ms) })).join(", ")}.` : `${took}.`);
  return said;
}

function tile(view, draft, part, look = false) {
  const called = partName(draft, part.name);
  const there = draft.images.includes(part.name);
  const why = part.odd && t("unlike the others; learnt");
  const image = el("img", { src: `${view.path}/maps/${part.name}?of=${encodeURIComponent(draft.begun_at)}-${draft.revision}-${draft.result.learnt}`, alt: t("Heat map of {part}", { part: called }), loading: "lazy" });
  const out = el("button", { type: "button", "data-needs": "engineer", "aria-label": t("Take {part} out", { part: called }), onclick: () => view.leave(part.name, "remove") }, t("Take it out"));
  return el("li", { "data-odd": part.odd, "data-look": look }, there ? image : el("span", { class: "gone" }, t("taken out")), el("b", {}, t("score {score}", { score: scaledText(part.scaled_score) })), el("span", { class: "muted" }, draft.files[part.name] ?? t("Part {number}", { number: Number.parseInt(part.name, 10) }), why && `: ${why}`), there && out);
}

async function go(view, draft) {
  // Before the first model there is no folder to list; the device refuses a name that is taken all the same.
  const beside = draft.pipelines.map((pipeline) => get(`/api/pipelines/${pipeline.name}/models`).catch(() => ({ known: [] })));
  const taken = new Set((await Promise.all(beside)).flatMap(({ known }) => known));
  const today = `${view.camera}-${new Date().toISOString().slice(0, 10)}`;
  let free = today;
  for (let number = 2; taken.has(free); number += 1) free = `${today}-${number}`;
  const options = draft.pipelines.map(({ name }) => {
    const { model, thresholds } = view.status?.pipelines.find((one) => one.name === name) ?? {};
    return el("option", { value: name }, thresholds ? t("{pipeline}, in place of {model}", { pipeline: name, model: modelName(model) }) : name);
  });
  ask({
    title: t("Put the model into service"), action: t("Test and change"), danger: true, done: t("The model has passed its test"),
    lead: t("It is loaded and tested. If it passes, it judges from the next part on; a model that was in service is kept for a roll-back, under System, until edgead ends."),
    fields: [
      view.trial.doubt && el("p", { class: "form-error" }, view.trial.doubt),
      unlike(draft.result) && el("label", { class: "check" }, el("input", { type: "checkbox", required: true }), `${unlike(draft.result)} ${t("I have looked: they are good.")}`),
      field("commission-model", t("Name of the model"), { name: "model", required: true, maxlength: "64", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", value: free }),
      el("label", { for: "commission-pipeline" }, t("Pipeline")),
      el("select", { id: "commission-pipeline", name: "pipeline" }, options, el("option", { value: "" }, t("a new one: show what to write into the site file"))),
      nameField(),
    ],
    send: async (values) => shown(view, await post(`${view.path}/go`, { ...values, pipeline: values.pipeline || null }), values.pipeline),
  });
}

function shown(view, gone, pipeline) {
  view.given = pipeline;
  by("commission-gone").hidden = false;
  by("commission-yaml").hidden = !gone.yaml;
  by("commission-judges").hidden = !pipeline; // until edgead starts again, nothing judges by the model of a new one
  const inFile = pipeline ? t("{pipeline} judges by the new model now. So that it does after a restart too, write this into the site file:", { pipeline }) : t("The model lies beside the others, and nothing judges by it yet. Write what stands below each key of these lines below the same key of the site file, with a name instead of NAME; then end edgead in its terminal, and start it again as before:");
  say(by("commission-gone-words"), gone.yaml ? inFile : t("{pipeline} judges by the new model from now on, also after a restart.", { pipeline }));
  say(by("commission-yaml"), gone.yaml);
  say(by("commission-gone-folder"), t("The model's folder: {folder}. A device needs a copy of it, which judges by the model's own limit: one that is set on this page reaches the folder by the command that Limits shows.", { folder: gone.model }));
  by("commission-gone").scrollIntoView({ block: "end" });
}
