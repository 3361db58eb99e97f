// Teaching: marked parts, what is learnt from them, what that changes, and the decision on it.

import { get, post } from "./api.js";
import { ask, nameField, rollBack } from "./dialogs.js";
import { badge, by, el, say, scaled, scaledText, score, scoreText, span, stamp, titleOf, toast } from "./dom.js";
import { linkTo } from "./evidence.js";
import { thumb } from "./marking.js";
import { t } from "./words.js";

const MAX_PARTS = 200;
const FAR = 150; // a defect, or a strong change of light: no border tells them apart
const LEAST_BAD = 3; // fewer say nothing about others of their kind
const ROLES = { taught: t("learnt"), "held out": t("good, not learnt"), bad: t("bad") };

export class TeachView {
  constructor() {
    this.pipeline = null;
    this.status = null;
    this.parts = { good: [], bad: [] };
    this.chosen = new Set();
    this.lessons = [];
    this.shown = "";
    by("teach-pipeline").addEventListener("change", () => this.load(by("teach-pipeline").value));
    by("teach-all").addEventListener("click", () => this.choose(this.parts.good.map((part) => part.id)));
    by("teach-none").addEventListener("click", () => this.choose([]));
    by("teach-start").addEventListener("click", () => this.start([...this.chosen], false));
    by("teach-good").addEventListener("change", (event) => this.tick(event.target));
    by("teach-roll-back").addEventListener("click", () => rollBack(this.state()));
  }

  state() {
    return this.status?.pipelines.find((pipeline) => pipeline.name === this.pipeline);
  }

  // Such a part may show another product, or is taught already: nobody teaches it unasked.
  isOfAnother(part) {
    const present = this.state()?.model_sha256;
    return Boolean(present) && part.model !== present;
  }

  lesson() {
    return this.lessons.find((lesson) => lesson.pipeline === this.pipeline);
  }

  show(pipeline) {
    this.load(pipeline || this.pipeline);
  }

  showStatus(status) {
    this.status = status;
    const names = status.pipelines.map((pipeline) => pipeline.name);
    const select = by("teach-pipeline");
    by("teach-pipeline-label").hidden = names.length < 2;
    if ([...select.options].map((option) => option.value).join() !== names.join()) select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    if (by("teach").hidden) return;
    if (!names.includes(this.pipeline)) this.load(names[0]);
    else this.follow();
  }

  async load(pipeline = this.pipeline ?? this.status?.pipelines[0]?.name) {
    if (!pipeline) return;
    this.pipeline = by("teach-pipeline").value = pipeline;
    const asked = (mark) => get(`/api/verdicts?limit=${MAX_PARTS}&mark=${mark}&pipeline=${encodeURIComponent(pipeline)}`);
    try {
      const good = await asked("good");
      const bad = await asked("bad");
      if (pipeline !== this.pipeline) return;
      this.parts = { good: good.verdicts, bad: bad.verdicts };
      by("teach-good").replaceChildren(...this.parts.good.map((part) => goodPart(part, this.isOfAnother(part))));
      by("teach-bad").replaceChildren(...this.parts.bad.map((part) => el("li", {}, el("a", { href: `#${linkTo(part)}` }, thumb(part), facts(part, this.isOfAnother(part))))));
      this.choose(this.parts.good.filter((part) => part.decision !== "ok" && part.images.length && !this.isOfAnother(part)).map((part) => part.id));
      await this.follow();
    } catch (problem) {
      toast(problem.message, true);
    }
  }

  choose(ids) {
    this.chosen = new Set(ids.filter((id) => this.part(id)?.images.length));
    for (const box of by("teach-good").querySelectorAll("input")) box.checked = this.chosen.has(box.value);
    this.showChoice();
  }

  tick(box) {
    if (box.checked) this.chosen.add(box.value);
    else this.chosen.delete(box.value);
    this.showChoice();
  }

  part(id) {
    return [...this.parts.good, ...this.parts.bad].find((part) => part.id === id);
  }

  showChoice() {
    const why = this.hindrance();
    by("teach-start").disabled = Boolean(why);
    by("teach-why").hidden = !why;
    say(by("teach-why"), why);
    say(by("teach-start"), choiceWords(this.chosen.size, why ? 0 : this.defects()));
    say(by("teach-note"), t("Marked good: {good}, bad: {bad}", { good: this.parts.good.length, bad: this.parts.bad.length }));
    by("no-teach-good").hidden = this.parts.good.length > 0;
    by("no-teach-bad").hidden = this.parts.bad.length > 0;
    by("teach-roll-back").hidden = !this.state()?.can_roll_back;
  }

  // Bad parts that can become known defects: those with an image.
  defects() {
    return this.parts.bad.filter((part) => part.images.length).length;
  }

  // Reason why nothing can be taught now; empty if there is none.
  hindrance() {
    if (this.lesson()?.state === "ready") return t("Accept or discard the lesson first.");
    if (this.lessons.some((lesson) => lesson.state === "running")) return t("A lesson is under way.");
    const missing = LEAST_BAD - this.defects();
    if (this.chosen.size || missing <= 0) return "";
    if (missing === LEAST_BAD) return t("Choose parts that were good, or mark three that were bad.");
    return missing === 1 ? t("Choose parts that were good, or mark one more that was bad.") : t("Choose parts that were good, or mark two more that were bad.");
  }

  async follow() {
    const found = await get("/api/lessons").catch(() => null); // the connection's state is shown above
    if (found) this.take(found.lessons);
  }

  take(lessons) {
    this.lessons = lessons;
    const lesson = this.lesson();
    // A button that has the focus is not replaced meanwhile: only changes are drawn.
    const shown = JSON.stringify([this.pipeline, lesson ?? null, this.parts.good.length, this.parts.bad.length]);
    if (shown !== this.shown) by("lesson").replaceChildren(...this.draw(lesson));
    this.shown = shown;
    if (lesson?.state === "running") say(by("lesson-age"), span(Math.max(0, (Date.now() + (this.status?.ahead_ms ?? 0) - Date.parse(lesson.since)) / 1000)));
    this.showChoice();
  }

  draw(lesson) {
    if (!lesson) return [el("p", { class: "empty" }, t("Choose parts that were good, or mark three that were bad, and teach them. The model in service stays until you accept what came of it."))];
    const number = lesson.good.length || lesson.bad;
    const about = { number, who: lesson.by, time: stamp(lesson.since) };
    const asked = lesson.good.length ? t("Parts: {number}, asked by {who}, {time}", about) : t("Known defects: {number}, asked by {who}, {time}", about);
    const lead = el("p", { class: "muted" }, lesson.because ? `${asked} · ${t("learnt all the same")}: ${lesson.because}` : asked);
    const discard = (label) => el("button", { "data-needs": "engineer", onclick: () => this.decide("discard") }, label);
    if (lesson.state === "running") {
      return [lead, el("p", { class: "lesson-state", role: "status" }, t("The lesson is being learnt, beside the line:"), " ", el("span", { id: "lesson-age" })), el("div", { class: "actions" }, discard(t("Cancel the lesson")))];
    }
    if (lesson.state === "failed") return [lead, el("p", { class: "form-error", role: "alert" }, lesson.reason), el("div", { class: "actions" }, discard(t("Discard")))];
    if (lesson.state === "refused") return [lead, ...this.refusal(lesson), el("div", { class: "actions" }, this.insist(lesson), discard(t("Discard")))];
    return [
      lead,
      lesson.report.left_out ? el("p", { class: "marked-note" }, t("Marked parts left out, as their images have not the depth that the model reads: {number}", { number: lesson.report.left_out })) : "",
      ...Object.keys(lesson.report.before).flatMap((precision, _, all) => this.comparison(lesson.report, precision, all.length > 1)),
      el("div", { class: "actions" }, el("button", { class: "primary", "data-needs": "engineer", onclick: () => this.decide("accept") }, t("Accept")), discard(t("Discard")), this.sheet(lesson)),
    ];
  }

  refusal(lesson) {
    if (!lesson.doubtful.length) return [el("p", { class: "form-error", role: "alert" }, lesson.reason)];
    const lead = t("Parts that stand far from anything good: {number}. Nothing was learnt.", { number: lesson.doubtful.length });
    const rows = lesson.doubtful.map(({ verdict, scaled_score, doubt }) => this.row(verdict, scoreWords(scaled_score), doubt));
    return [el("p", { class: "form-error", role: "alert" }, lead), el("ol", { class: "lesson-parts" }, rows), el("p", {}, this.sheet(lesson))];
  }

  insist(lesson) {
    if (!lesson.doubtful.length) return null;
    return el("button", { class: "danger", "data-needs": "engineer", onclick: () => this.start(lesson.good, true) }, t("They are good: learn them all the same"));
  }

  sheet(lesson) {
    return el("a", { href: `/api/lessons/${lesson.pipeline}/sheet`, target: "_blank", rel: "noopener" }, t("Look at all of them with heat maps"));
  }

  comparison(report, precision, named) {
    const [before, after] = [report.before[precision], report.after[precision]];
    const golden = ({ golden_scores, typical_score, reject_threshold: threshold }) => golden_scores.map((value) => scaledText(scaled(value, { typical_score, threshold }))).join(", ");
    const percent = (value) => `${Number((100 * value).toPrecision(3))} %`;
    const rows = [
      [t("Learnt parts"), counts(before.taught), counts(after.taught)],
      [t("Good parts that were not learnt"), counts(before.held_out), counts(after.held_out)],
      [t("Bad parts"), counts(before.bad), counts(after.bad)],
      [t("Good images that the limit comes from"), counts(before.good), counts(after.good)],
      [t("Good parts rejected, as asked"), percent(before.false_reject_rate), percent(after.false_reject_rate)],
      [t("Golden images, of which 100 is the limit"), golden(before), golden(after)],
      [t("Reject above"), score(before.reject_threshold), `${score(after.reject_threshold)} (${percent(after.reject_threshold / before.reject_threshold)})`],
      [t("Review above"), score(before.review_threshold), score(after.review_threshold)],
    ];
    const head = el("tr", {}, el("th", { scope: "col" }, named ? precision : t("Compared")), el("th", { scope: "col" }, t("now")), el("th", { scope: "col" }, t("after the lesson")));
    const body = rows.map(([name, old, now]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, old), el("td", { class: old === now ? null : "differs" }, now)));
    const parts = after.parts.map((part, index) => this.changed(before.parts[index], part, after.good.images));
    const byHand = t("The limit in force, {limit}, was set by a person and stays: {after} with what the lesson adds.", { limit: score(before.reject_threshold), after: score(after.reject_threshold) });
    const lost = after.golden_scores.filter((value, index) => value > after.reject_threshold && !(before.golden_scores[index] > before.reject_threshold)).length;
    const lostWords = lost > 0 && el("p", { class: "marked-note" }, t("Golden images of good parts that would be rejected after the lesson: {number}. A part that is marked bad may look like them: look at the marks again.", { number: lost }));
    return [lostWords, before.limit_by_hand && el("p", { class: "marked-note" }, byHand), el("div", { class: "scroll" }, el("table", { class: "comparison" }, el("thead", {}, head), el("tbody", {}, body))), el("ol", { class: "lesson-parts" }, parts)].filter(Boolean);
  }

  changed(before, after, images) {
    const text = `${scoreWords(before.scaled_score)} → ${scaledText(after.scaled_score)}`;
    const missed = after.role === "bad" && after.decision === "ok";
    const note = missed ? t("still passes: a limit that stops it stops {number} of {all} good images as well", { number: after.good_above, all: images }) : null;
    return this.row(after.verdict, [ROLES[after.role], " · ", text], note, [badge(before.decision), el("span", { "aria-hidden": "true" }, "→"), badge(after.decision)]);
  }

  row(id, text, note, badges = []) {
    const part = this.part(id);
    const name = part ? titleOf(part) : id.slice(0, 8);
    return el("li", {}, part ? thumb(part) : el("span", { class: "no-thumb" }), el("div", {}, el("a", { href: `#evidence/${id}/${this.pipeline}` }, name), el("p", {}, text), note && el("p", { class: "doubt" }, note)), el("div", { class: "badges" }, badges));
  }

  start(ids, force) {
    const defects = this.defects();
    const titles = [t("Teach {number} known defects?", { number: defects }), t("Teach this part?"), t("Teach {number} parts?", { number: ids.length })];
    ask({
      title: force ? t("Learn them all the same?") : titles[Math.min(ids.length, 2)], action: force ? t("Learn all the same") : t("Teach"), danger: force,
      lead: !ids.length
        ? t("A copy of the model learns the parts that are marked bad as known defects, beside the line. You decide on what comes of it.")
        : force
        ? t("Whatever stands out in these parts is accepted from then on, a defect too. Your name and what you say stand in the list of changes.")
        : t("A copy of the model learns them as good, beside the line. Parts that are marked bad test it, and three or more become known defects. You decide on what comes of it."),
      fields: [force && [el("label", { for: "reason" }, t("Why they are good")), el("textarea", { id: "reason", name: "reason", rows: "2", maxlength: "500", required: true })], nameField()],
      send: async (values) => this.take((await post("/api/lessons", { pipeline: this.pipeline, verdicts: ids, reason: (values.reason ?? "").replaceAll(/\s+/g, " "), by: values.by })).lessons),
    });
  }

  // Without bad parts nothing shows that a lesson lets defects pass.
  untested() {
    const [before] = Object.values(this.lesson().report.before);
    const highest = Math.max(...before.parts.filter(({ role }) => role === "taught").map((part) => part.scaled_score ?? 0));
    if (before.bad.images || highest <= FAR) return null;
    const words = t("No bad part tests this lesson, and a part of it had the score {score}, where 100 is the limit. If it is bad, defects like it pass from then on. I have looked at all of them: they are good.", { score: scaledText(highest) });
    return el("label", { class: "check" }, el("input", { type: "checkbox", required: true }), words);
  }

  decide(what) {
    const accept = what === "accept";
    ask({
      title: accept ? t("Accept the taught model?") : t("Discard the lesson?"), action: accept ? t("Accept") : t("Discard"), danger: accept,
      back: this.lesson()?.state === "running" ? t("Keep on") : undefined,
      done: accept ? t("The taught model judges now") : t("The lesson was discarded"),
      lead: accept
        ? t("It is tested with its golden images. If it passes, it judges from the next part on, also after a restart. The model of before can be rolled back to until edgead ends.")
        : t("What was learnt is removed. The model in service and the marks stay."),
      fields: [accept && this.untested(), accept && this.lesson().good.length > 0 && this.state()?.knows_kinds && el("p", { class: "form-error" }, t("It names no kinds of defects any more, until you name them again in Kinds.")), nameField()],
      send: async (values) => this.take((await post(`/api/lessons/${this.pipeline}/${what}`, { by: values.by })).lessons),
    });
  }
}

const scoreWords = (value) => t("score {score}", { score: scaledText(value) });

function choiceWords(number, defects) {
  if (!number && defects) return t("Teach {number} known defects", { number: defects });
  if (number < 2) return number ? t("Teach 1 part") : t("Teach");
  return t("Teach {number} parts", { number });
}

function goodPart(part, ofAnother) {
  const box = el("input", { type: "checkbox", value: part.id, disabled: !part.images.length });
  return el("li", {}, el("label", {}, thumb(part), el("span", { class: "tick" }, box, titleOf(part)), facts(part, ofAnother)));
}

function facts(part, ofAnother) {
  const lossy = !part.images.length ? t("no image is kept") : ["frame.png", "frame.tiff"].some((name) => part.images.includes(name)) ? null : t("JPEG only");
  return [badge(part.decision), el("span", { class: "muted" }, [t("score {score}", { score: scoreText(part) }), stamp(part.captured_at), lossy, ofAnother && t("judged by another version or model")].filter(Boolean).join(" · ")), el("span", { class: "muted about" }, [part.mark?.by, part.mark?.note].filter(Boolean).join(": "))];
}

function counts({ images, reject, review }) {
  if (!images) return t("none");
  const text = t("{reject} of {all} rejected", { reject, all: images });
  return review ? `${text}, ${t("{review} to review", { review })}` : text;
}
