// Dialogs before changes. The browser remembers the name for the audit, until the shift ends or nobody has touched it for an hour.

import { get, me, post } from "./api.js";
import { el, modelName, toast } from "./dom.js";
import { driftReason } from "./reasons.js";
import { t } from "./words.js";

const [NAME, SHIFT, TOUCHED] = ["edgead-name", "edgead-name-shift", "edgead-touched"];
const IDLE_MS = 3_600_000;
const NEWEST = 200; // parts marked bad
export const remembered = () => localStorage.getItem(NAME) || "";

// Forgets a name that was given in another shift, or before the page was left alone: the next person is asked.
export function endName(shift) {
  const idle_ms = Date.now() - Number(localStorage.getItem(TOUCHED) ?? Date.now());
  if (idle_ms > IDLE_MS || (localStorage.getItem(SHIFT) ?? shift) !== shift) localStorage.removeItem(NAME);
  localStorage.setItem(SHIFT, shift);
}
for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => localStorage.setItem(TOUCHED, String(Date.now())), true);

let onChanged = () => {};
export function whenChanged(callback) {
  onChanged = callback;
}

// Asks for a name if nobody is signed in by name; a signed-in name is in the audit whatever a form says.
export function nameField() {
  if (me().name) return [];
  return field("by", t("Your name, for the list of changes"), { required: true, maxlength: "64", autocomplete: "name", value: remembered() });
}

// A field with its label; `also` has more attributes.
export const field = (id, label, also = {}) => [el("label", { for: id }, label), el("input", { id, name: id, autocomplete: "off", ...also })];

// A dialog with a form; `send` gets the form's values, and throws why they are refused. Resolves to whether they were sent.
export function ask({ title, lead, fields, action, back = t("Cancel"), danger = false, send, done = "" }) {
  const error = el("p", { class: "form-error", role: "alert", hidden: true });
  const submit = el("button", { class: danger ? "danger" : "primary" }, action);
  const cancel = el("button", { type: "button", onclick: () => box.close() }, back);
  const form = el("form", { method: "dialog" }, fields, error, el("div", { class: "actions" }, cancel, submit));
  const box = el("dialog", { "aria-labelledby": "dialog-title" }, el("h2", { id: "dialog-title" }, title), lead && el("p", { class: "lead" }, lead), form);
  const refuse = (reason) => {
    error.textContent = reason;
    error.hidden = false;
  };
  // A browser's own message is gone after some seconds, and some browsers show none.
  const sayWhy = (event) => {
    event.preventDefault();
    const [field] = form.querySelectorAll(":invalid");
    if (event.target !== field) return; // one after the other
    field.focus();
    refuse(field.validity.valueMissing ? t("Still missing: {field}", { field: field.labels[0]?.textContent ?? field.name }) : field.validationMessage);
  };
  form.addEventListener("invalid", sayWhy, true);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    const values = Object.fromEntries(new FormData(form).entries());
    values.by ??= me().name;
    if (values.by && !me().name) localStorage.setItem(NAME, String(values.by));
    try {
      await send(values);
      box.close("sent");
      if (done) toast(done);
      onChanged();
    } catch (problem) {
      refuse(problem.message);
    }
    submit.disabled = false;
  });
  document.body.append(box);
  box.showModal();
  [...form.querySelectorAll("input")].find(({ type, value }) => type !== "checkbox" && !value)?.focus(); // not in a filled name
  return new Promise((resolve) =>
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue === "sent");
    }),
  );
}

export async function anotherKind(verdict) {
  const known = await get(`/api/pipelines/${verdict.pipeline}/kinds?hours=1`).then((found) => Object.keys(found.known)).catch(() => []);
  const back = verdict.kind_correction ? t("Left empty, it is again what it was judged to be.") : "";
  ask({
    title: t("Which kind is it?"), action: t("Set the kind"), done: t("The kind was set"),
    lead: `${t("Choose one that is known, or write a new one. It holds for this part alone.")} ${back}`,
    fields: [
      field("kind", t("Kind"), { list: "known-kinds", maxlength: "64", required: !back, value: verdict.shown_kind ?? "" }),
      el("datalist", { id: "known-kinds" }, known.map((kind) => el("option", { value: kind }))),
      nameField(),
    ],
    send: (values) => post(`/api/verdicts/${verdict.id}/kind`, { kind: values.kind.trim() || null, by: values.by, pipeline: verdict.pipeline }),
  });
}

// `after` is called with the kind's new name.
export function renameKind(pipeline, kind, after) {
  ask({
    title: t("Rename {kind}", { kind }), action: t("Rename"), done: t("The kind was renamed"),
    lead: t("Every reject of this kind is shown under the new name, also those of the past. What the model judged stays on record."),
    fields: [field("name", t("New name"), { required: true, maxlength: "64" }), nameField()],
    send: async (values) => {
      await post(`/api/pipelines/${pipeline}/kinds/rename`, { kind, name: values.name, by: values.by });
      after(values.name.trim());
    },
  });
}

export function mergeKind(pipeline, kind, others, after) {
  ask({
    title: t("Merge {kind}", { kind }), action: t("Merge"), done: t("The kinds were merged"),
    lead: t("Both are shown as one kind from now on, also in the past. They can be taken apart again."),
    fields: [el("label", { for: "into" }, t("Is the same as")), el("select", { id: "into", name: "into" }, others.map((other) => el("option", { value: other }, other))), nameField()],
    send: async (values) => {
      await post(`/api/pipelines/${pipeline}/kinds/merge`, { kind, into: values.into, by: values.by });
      after(values.into);
    },
  });
}

export function splitKind(pipeline, kind, judged) {
  ask({
    title: t("Take {kind} apart", { kind }), action: t("Take it out"), done: t("It is a kind of its own"),
    lead: t("The model sees these kinds. One of them gets a name of its own again; the model's where none is written."),
    fields: [
      el("label", { for: "judged" }, t("Kind of the model")),
      el("select", { id: "judged", name: "judged" }, judged.map((each) => el("option", { value: each }, each))),
      field("name", t("Its name from now on"), { maxlength: "64" }),
      nameField(),
    ],
    send: (values) => post(`/api/pipelines/${pipeline}/kinds/split`, { kind, judged: values.judged, name: values.name.trim() || null, by: values.by }),
  });
}

export function changeModel(pipeline, models) {
  const current = modelName(models.current);
  const options = models.known.map((name) => el("option", { value: name, selected: name === current }, name === current ? t("{model} (in service)", { model: name }) : name));
  ask({
    title: t("Model of {pipeline}", { pipeline: pipeline.name }), action: t("Test and change"), danger: true, done: t("The model was changed"),
    lead: t("The other model is loaded beside and tested with its golden images. If it passes, it judges from the next part on; the one in service is kept for a roll-back until edgead ends."),
    fields: [el("label", { for: "model" }, t("Model")), el("select", { id: "model", name: "model" }, options), nameField()],
    send: (values) => post(`/api/pipelines/${pipeline.name}/model`, values),
  });
}

export function acceptDrift(pipeline) {
  ask({
    title: t("Accept the drift of {pipeline}?", { pipeline: pipeline.name }), action: t("Accept"), done: t("The drift watch starts again"),
    lead: `${t("Since part {number}: {reason}.", { number: pipeline.drift.alarm_part, reason: driftReason(pipeline.drift.reason) })} ${t("The warning goes, and the watch starts again. Fix the cause first, or calibrate on good parts of today.")}`,
    fields: nameField(),
    send: (values) => post(`/api/pipelines/${pipeline.name}/accept-drift`, values),
  });
}

// Pauses a pipeline, or all that run.
export function pause(pipeline, names) {
  const ends = [["", t("until somebody resumes")], ["15", t("15 minutes")], ["60", t("an hour")], ["240", t("4 hours")]];
  ask({
    title: t("Pause {pipeline}?", { pipeline: pipeline.name }), action: t("Pause"), done: t("Paused"),
    lead: t("Nothing is judged, and counts and alarms rest. Parts that go by are not inspected."),
    fields: [
      el("label", { for: "minutes" }, t("For")),
      el("select", { id: "minutes", name: "minutes" }, ends.map(([value, label]) => el("option", { value }, label))),
      field("reason", t("Why, such as cleaning"), { maxlength: "200" }),
      names.length > 1 && el("label", {}, el("input", { type: "checkbox", name: "all" }), t("All pipelines that run: {number}", { number: names.length })),
      nameField(),
    ],
    send: ({ by, reason, minutes, all }) => postEach(all ? names : [pipeline.name], "pause", { by, reason, minutes: minutes ? Number(minutes) : null }),
  });
}

// Sends with one click if the name is known; otherwise asks for it.
async function atOnce({ title, lead, action, send, done }) {
  const by = me().name || remembered();
  if (!by) return ask({ title, lead, fields: nameField(), action, send, done });
  try {
    await send({ by });
    if (done) toast(done);
    onChanged();
  } catch (problem) {
    toast(problem.message, true);
  }
}

// Resumes a pipeline; of several that pause, others only if a person says so.
export function resume({ name }, names) {
  const asked = { title: t("Resume {pipeline}?", { pipeline: name }), lead: "", action: t("Resume"), done: t("{pipeline} judges again", { pipeline: name }) };
  if (names.length < 2) return atOnce({ ...asked, send: ({ by }) => postEach(names, "resume", { by }) });
  const all = el("input", { type: "checkbox", name: "all" });
  ask({ ...asked, fields: [el("label", {}, all, t("All pipelines that pause: {number}", { number: names.length })), nameField()], send: ({ by, all }) => postEach(all ? names : [name], "resume", { by }) });
}

const postEach = (names, what, values) => Promise.all(names.map((name) => post(`/api/pipelines/${name}/${what}`, values)));

export async function rollBack(pipeline) {
  const { model, earlier_model: earlier, earlier_sha256: sha256, earlier_review: review } = pipeline;
  const asked = `/api/verdicts?limit=${NEWEST}&mark=bad&pipeline=${encodeURIComponent(pipeline.name)}`;
  const bad = await get(asked).then(({ verdicts }) => verdicts.filter((verdict) => verdict.model === sha256), () => []);
  const passed = bad.filter(({ image_score: scored }) => scored <= review).length; // by the limit in force then
  ask({
    title: t("Roll back the model of {pipeline}?", { pipeline: pipeline.name }), action: t("Roll back"), danger: true, done: t("Rolled back"),
    lead: earlier === model
      ? t("“{model}” judges as before its last change, from the next part on; a second roll-back brings it back as it is now.", { model: modelName(model) })
      : t("“{earlier}” judges again in place of “{model}”, from the next part on; a second roll-back brings the one of now back.", { earlier: modelName(earlier), model: modelName(model) }),
    fields: [passed > 0 && el("p", { class: "form-error" }, t("Parts marked bad that pass then: {passed} of {all} that it judged", { passed, all: bad.length })), nameField()],
    send: (values) => post(`/api/pipelines/${pipeline.name}/roll-back`, values),
  });
}

export const acknowledge = (notice, title) =>
  atOnce({
    title: t("Have you seen this?"), action: t("Acknowledge"), done: "",
    lead: `${title}. ${t("The sound ends. The notice stands until its cause is gone.")}`,
    send: ({ by }) => post(`/api/notices/${notice.id}/acknowledge`, { by }).then((found) => toast(acknowledged(found, by)), (problem) => {
      throw problem.status === 404 ? new Error(t("It was over so long ago that it is no longer listed.")) : problem;
    }),
  });

// Somebody else, or the end of the cause, may have been faster.
function acknowledged({ acknowledged_by: name, resolved_at }, by) {
  if (!name.startsWith(by)) return t("{name} has acknowledged it already.", { name });
  return resolved_at ? t("Its cause is over already; it stands under System.") : t("Acknowledged");
}
