// Cameras, pipelines, sinks and the store: their states with reasons, and their counts.

import { get, post } from "./api.js";
import { acceptDrift, changeModel, rollBack } from "./dialogs.js";
import { STATES, by, complain, count, decimal, el, grade, modelName, score, span, stamp, stateBadge, toast } from "./dom.js";
import { openFocus } from "./focus.js";
import { cameraReason, driftReason, imagesAre, pipelineReason, unaskedBy, uninspected } from "./reasons.js";
import { changeThresholds } from "./thresholds.js";
import { t } from "./words.js";

export class SystemView {
  showStatus(status) {
    showIssues(status);
    if (by("system").hidden) return;
    const units = [
      [t("Cameras"), status.cameras.map(cameraCard)],
      [t("Pipelines"), status.pipelines.map(pipelineCard)],
      [t("Sinks and evidence"), [...status.sinks.map(sinkCard), evidenceCard(status)]],
    ];
    const [shown, cards] = [by("system-parts").querySelectorAll(".unit-card"), units.flatMap(([, of]) => of)];
    // A button that is pressed or has the focus is not replaced meanwhile.
    if (by("system-parts").contains(document.activeElement)) return shown.forEach((card, index) => cards[index] && !card.contains(document.activeElement) && card.replaceWith(cards[index]));
    by("system-parts").replaceChildren(
      el("div", { class: "columns" }, units.map(([title, of]) => el("section", { class: "units" }, el("h2", {}, title), of))),
      el("p", { class: "muted" }, `${t("edgead {version}, up for {time}", { version: status.version, time: span(status.uptime_s) })} · `, el("a", { href: "/docs" }, "API")),
    );
  }
}

const EVIDENCE_WORDS = {
  rows_written: t("Records"), rows_waiting: t("Waiting"), rows_lost: t("Lost"), rows_removed: t("Aged out"),
  images_written: t("Images"), images_waiting: t("Waiting"), images_dropped: t("Not kept"), images_mib: "MiB",
};

// Red if something does not work; the warning's colour if all works and a warning stands.
function showIssues(status) {
  const parts = [...status.cameras, ...status.pipelines];
  const bad = parts.filter((part) => grade(part.state) === "bad");
  const warned = parts.filter((part) => !bad.includes(part) && (part.health?.length || part.drift?.state === "warning"));
  const faults = bad.length + status.sinks.filter((sink) => sink.problem).length + status.evidence_problems.length;
  const mark = by("system-issues");
  mark.hidden = faults + warned.length === 0;
  mark.textContent = faults + warned.length;
  mark.dataset.state = faults ? "bad" : "watch";
  mark.setAttribute("aria-label", t("{faults} faults, {warnings} warnings", { faults, warnings: warned.length }));
}

function card(name, badge, subtitle, reasons, numbers, actions = []) {
  return el(
    "article", { class: "card unit-card" },
    el("h3", {}, name, badge),
    subtitle.map((line) => el("p", { class: "sub" }, line)),
    reasons.filter(([text]) => text).map(([text, graded]) => el("p", { class: "reason", "data-state": graded }, text)),
    el("dl", { class: "numbers" }, numbers.map(([label, value, watch, about]) => el("div", { title: about }, el("dt", {}, label), el("dd", { class: watch ? "watch" : null }, value)))),
    actions.length ? el("div", { class: "actions" }, actions) : null,
  );
}

const since = (part) => t("{state} since {time}", { state: STATES[part.state], time: stamp(part.since) });

function cameraCard(camera) {
  const health = camera.health.length ? imagesAre(camera.health) : null;
  return card(
    camera.name, stateBadge(camera.state), [camera.uri, since(camera)],
    [[cameraReason(camera.reason), grade(camera.state)], [health, "watch"]],
    [
      [t("Frames/s"), camera.fps == null || camera.state !== "streaming" ? "—" : decimal(camera.fps, 1)],
      [t("Newest"), camera.age_s == null ? "—" : span(camera.age_s)],
      [t("Captured"), count(camera.captured)],
      [t("Reconnects"), count(camera.reconnects), camera.reconnects > 0],
      [t("Corrupt"), count(camera.corrupt), camera.corrupt > 0],
      [t("Duplicates"), count(camera.duplicates), camera.duplicates > 0],
      ...(camera.lost_packets + camera.lost_frames ? [[t("Packets lost"), count(camera.lost_packets), true], [t("Frames lost"), count(camera.lost_frames), camera.lost_frames > 0]] : []),
    ],
    [el("button", { onclick: () => openFocus(camera.name) }, t("Focus"))],
  );
}

// The drift; for a model that cannot be watched the reason, which is no warning.
function driftNote(drift) {
  if (drift?.state === "off") return [t("Drift is not watched: {reason}", { reason: drift.reason }), "normal"];
  return [drift?.reason && `${t("Drift")}: ${driftReason(drift.reason)}`, "watch"];
}

function pipelineCard(pipeline) {
  const model = modelName(pipeline.model);
  const limits = pipeline.thresholds;
  return card(
    pipeline.name, stateBadge(pipeline.state),
    [`${t("camera {name}", { name: pipeline.camera })} · ${t("model {name}", { name: model })} ${pipeline.model_sha256.slice(0, 10)}`, since(pipeline)],
    [[pipelineReason(pipeline.reason), grade(pipeline.state)], [pipeline.unasked > 0 && unaskedBy(pipeline), "normal"], [uninspected(pipeline.uninspected), "watch"], driftNote(pipeline.drift)],
    [
      [t("Verdicts"), count(pipeline.judged)],
      [t("Per second"), pipeline.fps == null || pipeline.state !== "running" ? "—" : decimal(pipeline.fps, 1)],
      [t("Dropped"), count(pipeline.dropped), false, t("Frames that a newer one replaced before they were judged")],
      [t("Skipped"), count(pipeline.skipped), pipeline.skipped > 0, t("Frames that came while the pipeline was not in service")],
      [t("Late"), count(pipeline.late), pipeline.late > 0, t("Verdicts later than the site file allows")],
      [t("Parts missed"), count(pipeline.parts_missed), pipeline.parts_missed > 0, t("Calls without a frame in time")],
      ...(Object.keys(pipeline.codes).length ? [[t("Codes unread"), count(pipeline.codes.unread), pipeline.codes.unread > 0]] : []),
      [t("Restarts"), count(pipeline.restarts), pipeline.restarts > 0],
      [t("Review above"), score(limits?.review)],
      [t("Reject above"), score(limits?.reject)],
    ],
    [
      el("button", { "data-needs": "operate", onclick: (event) => selfTest(pipeline, event.target) }, t("Self-test")),
      limits && el("button", { "data-needs": "engineer", onclick: () => changeThresholds(pipeline) }, t("Limits")),
      el("button", { "data-needs": "engineer", onclick: () => get(`/api/pipelines/${pipeline.name}/models`).then((models) => changeModel(pipeline, models)) }, t("Change model")),
      pipeline.drift?.state === "warning" && el("button", { "data-needs": "engineer", onclick: () => acceptDrift(pipeline) }, t("Accept drift")),
      pipeline.can_roll_back && el("button", { "data-needs": "engineer", onclick: () => rollBack(pipeline) }, t("Roll back")),
    ].filter(Boolean),
  );
}

function sinkCard(sink) {
  return card(
    sink.name, sink.problem ? stateBadge("problem", "bad") : stateBadge("working", "normal"),
    sink.required ? [sink.uri, t("required: without it the device is not ready")] : [sink.uri],
    [[sink.problem, "bad"]],
    [
      [t("Written"), count(sink.written)],
      [t("Waiting"), count(sink.waiting)],
      [t("Dropped"), count(sink.dropped), sink.dropped > 0, t("Verdicts that the receiver was too slow for")],
      [t("Failed"), count(sink.failed), sink.failed > 0],
    ],
  );
}

function evidenceCard(status) {
  const problems = status.evidence_problems;
  return card(
    t("Evidence store"), problems.length ? stateBadge("problem", "bad") : stateBadge("working", "normal"), [],
    problems.map((problem) => [problem, "bad"]),
    Object.entries(EVIDENCE_WORDS).map(([name, label]) => [label, count(Math.round(status.evidence[name])), /lost|dropped/.test(name) && status.evidence[name] > 0, name === "rows_removed" && t("Removed because the store is full or they are old")]),
  );
}

async function selfTest(pipeline, button) {
  button.disabled = true;
  const { result } = (await post(`/api/pipelines/${pipeline.name}/self-test`).catch(complain)) ?? {};
  if (result?.passed) toast(t("{pipeline}: all {number} golden images score as on record", { pipeline: pipeline.name, number: result.images.length }));
  else if (result) toast(t("{pipeline}: the self-test failed", { pipeline: pipeline.name }), true);
  button.disabled = false;
}
