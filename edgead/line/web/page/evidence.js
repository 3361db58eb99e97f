// Past verdicts: a list on the left, images and facts of one on the right.

import { get, me, post } from "./api.js";
import { anotherKind, remembered } from "./dialogs.js";
import { WORDS, badge, by, complain, el, kindName, kindOf, ms, reveal, say, score, scoreText, stamp, titleOf, toast } from "./dom.js";
import { inKiosk } from "./kiosk.js";
import { STAGES } from "./live_latency.js";
import { OPINIONS, askAbout, markAtOnce, markButtons, markNote, opinionOf, recentImage, thumb } from "./marking.js";
import { otherFormat } from "./reasons.js";
import { t } from "./words.js";
import { zoomable } from "./zoom.js";

export const linkTo = (verdict) => `evidence/${verdict.id}/${verdict.pipeline}`;

const PAGE = 50;
const TYPING_MS = 400;
// Newer stands above older.
const WAYS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
const MARKS = { g: "good", b: "bad", u: null };
const LIST_BESIDE = matchMedia("(min-width: 981px)");
const WIDE = [t("Other format than learnt"), t("Regions"), t("Stages"), t("Camera"), t("Id")];

export class EvidenceView {
  constructor() {
    this.decision = "reject";
    this.chosen = null;
    this.before = null;
    this.listed = new Map(); // verdicts of the list, by their links
    this.keys = null; // what the key before this one does
    this.marked = []; // links, marks before and names of those that were marked, for undo
    this.heard = false; // of a verdict that the list may lack
    by("decisions").addEventListener("click", ({ target: { dataset } }) => "decision" in dataset && Object.assign(this, { decision: dataset.decision }).load());
    by("evidence-part-key").addEventListener("change", () => by("evidence-part").value && this.load());
    let typed; // parts are looked for among all: under rejects, a number would find another part and hide that its own was OK
    by("evidence-part").addEventListener("input", () => (clearTimeout(typed), (typed = setTimeout(() => Object.assign(this, { decision: "" }).load(), TYPING_MS))));
    for (const id of ["evidence-pipeline", "evidence-kind", "evidence-until", "evidence-score"]) by(id).addEventListener("change", () => this.load());
    by("evidence-newest").addEventListener("click", () => {
      by("evidence-until").value = "";
      by("verdicts").scrollTop = 0;
      this.load();
    });
    by("older").addEventListener("click", () => this.load(this.before));
    addEventListener("keydown", (event) => this.key(event));
  }

  hear({ decision }) {
    this.heard ||= !this.decision || decision === this.decision;
  }

  showStatus(status) {
    if (this.heard && !by("evidence").hidden) this.countNew();
    const names = status.pipelines.map((pipeline) => pipeline.name);
    const select = by("evidence-pipeline");
    by("evidence-pipeline-label").hidden = names.length < 2;
    if (select.options.length === names.length + 1) return;
    select.replaceChildren(el("option", { value: "" }, t("all")), ...names.map((name) => el("option", { value: name }, name)));
  }

  async show(id, pipeline) {
    if (!by("verdicts").children.length || !id) await this.load();
    if (id) await this.open(id, pipeline);
  }

  // Verdicts that the filters let through, the newest first.
  page(before = null) {
    const value = (name) => by(`evidence-${name}`).value.trim();
    const until = value("until") && new Date(value("until")).toISOString();
    const asked = { limit: String(PAGE), decision: this.decision, pipeline: value("pipeline"), [value("part-key")]: value("part"), kind: value("kind"), until, at_least: value("score"), before_id: before };
    return get(`/api/verdicts?${new URLSearchParams(Object.entries(asked).filter(([, wanted]) => wanted))}`);
  }

  // New verdicts are counted, and come when asked for: rows that move would be hit by a finger meant for another.
  async countNew() {
    this.heard = false;
    const asked = this.asked;
    const page = await this.page().catch(() => null);
    if (!page || asked !== this.asked) return (this.heard = true); // asked again with the next status
    const first = by("verdicts").querySelector("button")?.dataset.link;
    const known = page.verdicts.findIndex((verdict) => linkTo(verdict) === first);
    this.offerNew(known >= 0 ? known : page.next_before_id ? `${PAGE}+` : page.verdicts.length);
  }

  offerNew(number) {
    say(by("evidence-newest"), number ? t("{number} new", { number }) : t("Newest"));
    by("evidence-newest").className = number ? "primary" : "quiet";
  }

  async load(before = null) {
    for (const button of by("decisions").children) button.setAttribute("aria-pressed", button.dataset.decision === this.decision);
    const asked = (this.asked = {});
    try {
      const page = await this.page(before);
      if (asked !== this.asked) return; // for another choice, meanwhile
      if (!before) this.listed.clear(), this.offerNew(0);
      for (const verdict of page.verdicts) this.listed.set(linkTo(verdict), verdict);
      const rows = page.verdicts.map((verdict) => this.row(verdict));
      if (before) by("verdicts").append(...rows);
      else by("verdicts").replaceChildren(...rows);
      this.before = page.next_before_id;
      if (!before && this.chosen && !this.listed.has(this.chosen)) this.close();
      if (LIST_BESIDE.matches && !this.chosen && page.verdicts.length) this.open(page.verdicts[0].id, page.verdicts[0].pipeline);
    } catch (problem) {
      toast(problem.message, true);
    }
    by("older").hidden = !this.before;
    by("no-verdicts").hidden = by("verdicts").children.length > 0;
    if (!by("no-verdicts").hidden) this.empty();
  }

  // Nothing of the part before stays beside a list without it: its buttons would mark a part that nobody asked for.
  close() {
    if (location.hash === `#${this.chosen}`) history.replaceState(null, "", "#evidence"); // else its row could not be chosen later
    this.chosen = null;
    by("detail").replaceChildren(el("p", { class: "empty" }, t("Choose a verdict to see its images")));
  }

  empty() {
    const set = ["pipeline", "part", "kind", "until", "score"].map((name) => by(`evidence-${name}`)).filter((field) => field.value.trim());
    const label = (field) => field.labels[0]?.firstChild.textContent.trim() ?? by("evidence-part-key").selectedOptions[0].text;
    const value = (field) => (field.type === "datetime-local" ? stamp(field.value) : field.value.trim());
    const filters = [WORDS[this.decision], ...set.map((field) => `${label(field)} ${value(field)}`)].filter(Boolean).join(", ");
    say(by("no-verdicts"), filters ? t("No part found with: {filters}", { filters }) : t("No part was judged yet"));
    if (this.decision && set.length) by("no-verdicts").append(" ", el("button", { onclick: () => Object.assign(this, { decision: "" }).load() }, t("Search all verdicts")));
    this.close();
  }

  row(verdict) {
    const about = [[kindOf(verdict), titleOf(verdict)].filter(Boolean).join(" · "), (verdict.false_reject || verdict.mark) && el("span", { class: "marked" }, verdict.false_reject ? t("false reject") : OPINIONS[opinionOf(verdict)])];
    const shown = [thumb(verdict), badge(verdict.decision), el("span", { class: "score-of" }, scoreText(verdict)), el("span", { class: "about" }, about), el("time", { datetime: verdict.captured_at }, stamp(verdict.captured_at))];
    return el("li", {}, el("button", { "data-link": linkTo(verdict), "aria-current": linkTo(verdict) === this.chosen ? "true" : null, onclick: () => (location.hash = linkTo(verdict)) }, shown));
  }

  // Handles keys outside fields and dialogs.
  key(event) {
    if (by("evidence").hidden || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
    if (event.key === "Escape" && this.chosen) return this.back();
    const key = event.key.toLowerCase();
    if (event.key in WAYS) this.afterKeys(() => this.step(WAYS[event.key]));
    else if (key in MARKS && !event.repeat && !inKiosk()) this.afterKeys(() => (MARKS[key] ? this.markChosen(MARKS[key]) : this.undo()));
    else return;
    event.preventDefault();
  }

  // Keys wait for each other: two fast ones mark two parts, and never the same part twice.
  afterKeys(action) {
    const after = async (before) => { await before; await action(); };
    this.keys = after(this.keys).catch(complain);
  }

  async markChosen(opinion, link = this.chosen, verdict = this.listed.get(link), send = markAtOnce) {
    if (!verdict || !(await send(verdict, opinion))) return;
    this.marked.push([link, verdict.mark, titleOf(verdict)]);
    this.remark(link, { verdict: opinion });
    const said = { part: titleOf(verdict), who: me().name || remembered() };
    if (send === markAtOnce) toast(opinion === "good" ? t("{part} marked good by {who}. U: undo", said) : t("{part} marked bad by {who}. U: undo", said));
    if (this.chosen === link) await this.step(1);
    if (this.chosen === link) await this.open(...link.split("/").slice(1)); // the last of the list
  }

  // Each press undoes one mark; the mark before it comes back.
  async undo() {
    const [link, before, part] = this.marked.at(-1) ?? [];
    if (!link) return;
    const [, id, pipeline] = link.split("/");
    await post(`/api/verdicts/${id}/mark`, { verdict: before?.verdict ?? null, by: me().name || remembered(), note: before?.note ?? "", pipeline });
    this.marked.pop();
    this.remark(link, before);
    toast(t("{part}: the mark is taken back", { part }));
    if (this.chosen === link) await this.open(id, pipeline);
    else location.hash = link;
  }

  remark(link, mark) {
    const verdict = this.listed.get(link);
    if (!verdict) return; // another list is shown since
    verdict.mark = mark;
    verdict.false_reject = mark?.verdict === "good" && verdict.decision !== "ok" ? mark : null;
    this.rowOf(link)?.parentElement.replaceWith(this.row(verdict));
  }

  rowOf(link) {
    return [...by("verdicts").querySelectorAll("button")].find((button) => button.dataset.link === link);
  }

  // Goes to the next older or newer one of the list; loads older ones at its end.
  async step(way) {
    const find = () => {
      const links = [...by("verdicts").querySelectorAll("button")];
      const at = links.findIndex((button) => button.dataset.link === this.chosen);
      return at < 0 ? links[0] : links[at + way];
    };
    if (!find() && way > 0 && this.before) await this.load(this.before);
    const next = find();
    if (!next) return;
    reveal(by("verdicts"), next);
    this.chosen = next.dataset.link; // at once: the next key may come before the address has changed
    location.hash = this.chosen;
    if (by("verdicts").contains(document.activeElement)) next.focus({ preventScroll: true });
  }

  // Goes back to the list, which is above on a phone; in the kiosk back to the line.
  back() {
    if (inKiosk()) return (location.hash = "kiosk");
    const row = this.rowOf(this.chosen);
    (row ?? by("verdicts")).scrollIntoView({ block: "center" });
    row?.focus({ preventScroll: true });
  }

  steps() {
    const [previous, next] = [el("button", { onclick: () => this.step(-1) }, t("Previous")), el("button", { onclick: () => this.step(1) }, t("Next"))];
    return el("div", { class: "steps" }, el("button", { class: "back", onclick: () => this.back() }, t("Back")), previous, next);
  }

  async open(id, pipeline = "") {
    const chosen = `evidence/${id}/${pipeline}`;
    this.chosen = chosen;
    for (const button of by("verdicts").querySelectorAll("button")) {
      if (button.dataset.link === chosen) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    try {
      const verdict = await get(`/api/verdicts/${encodeURIComponent(id)}${pipeline && `?pipeline=${encodeURIComponent(pipeline)}`}`);
      if (this.chosen !== chosen) return;
      by("detail").replaceChildren(this.steps(), ...detail(verdict, (opinion) => this.afterKeys(() => this.markChosen(opinion, chosen, verdict, askAbout))));
      this.listed.set(chosen, { ...this.listed.get(chosen), ...verdict });
      if (matchMedia("(max-width: 980px)").matches) by("detail").scrollIntoView({ block: "start" });
    } catch (problem) {
      by("detail").replaceChildren(el("p", { class: "empty" }, problem.message));
    }
  }

  async again() {
    const link = this.chosen;
    if (!link) return this.load();
    await this.open(...link.split("/").slice(1));
    this.remark(link, this.listed.get(link)?.mark); // its row
  }
}

function detail(verdict, mark) {
  const another = verdict.decision === "ok" ? null : el("button", { "data-needs": "operate", onclick: () => anotherKind(verdict) }, t("Another kind"));
  // The decision first: it can be seen and answered without scrolling.
  const head = el("div", { class: "detail-head" }, badge(verdict.decision), el("b", {}, titleOf(verdict)), kindOf(verdict) && el("b", { class: "kind" }, kindOf(verdict)), el("span", {}, scoreOf(verdict)), el("time", { class: "muted", datetime: verdict.captured_at }, stamp(verdict.captured_at)), el("div", { class: "actions" }, markButtons(verdict, mark)));
  return [
    el("div", { class: "seen" }, head, images(verdict), verdict.words && el("p", { class: "words" }, verdict.words)),
    another && el("div", { class: "actions of-kinds" }, another),
    verdict.false_reject && el("p", { class: "marked-note" }, t("False reject, says {who}, {time}", { who: verdict.false_reject.by, time: stamp(verdict.false_reject.at) }), verdict.false_reject.note && `: ${verdict.false_reject.note}`),
    markNote(verdict),
    facts(verdict),
  ].filter(Boolean);
}

function scoreOf(verdict) {
  const said = { score: scoreText(verdict) };
  return verdict.score == null ? t("score {score}", said) : t("score {score} (limit 100)", said);
}

function images(verdict) {
  const names = verdict.images.filter((name) => !name.endsWith(".tiff")); // browsers show none
  if (!names.length) return [verdict.recent ? recentImage(verdict) : el("p", { class: "empty" }, t("No image was kept of this one"))];
  const large = el("img", { alt: "" });
  const path = (name) => `/api/verdicts/${verdict.id}/images/${name}?pipeline=${verdict.pipeline}`;
  const buttons = names.map((name) =>
    el("button", { "data-name": name, onclick: () => choose(name) }, el("img", { src: path(name), alt: "", loading: "lazy" }), label(name)),
  );
  const choose = (name) => {
    large.src = path(name);
    large.alt = label(name);
    for (const button of buttons) {
      button.setAttribute("aria-pressed", button.dataset.name === name);
      if (button.dataset.name === name) requestAnimationFrame(() => reveal(film, button)); // it may not be on the page yet
    }
  };
  const film = el("div", { class: "film", role: "group", "aria-label": t("Images") }, buttons);
  choose(["heat.jpg", "frame.jpg", "frame.png"].find((name) => names.includes(name)) ?? names[0]);
  return [zoomable(large), film];
}

// before-002.jpg -> 2 before
function label(name) {
  if (name === "frame.png") return t("Without loss");
  const [kind, number] = name.replace(".jpg", "").split("-");
  const names = { frame: t("Frame"), heat: t("Heat map"), before: t("{number} before", { number: Number(number) }), after: t("{number} after", { number: Number(number) }) };
  return names[kind] ?? name;
}

function regions({ boxes, decision }) {
  if (boxes.length) return boxes.map((box) => t("{width} × {height} px at {x}, {y}", box)).join("; ");
  return decision === "ok" ? t("none") : t("no single spot stands out; the ring shows the most unusual place");
}

// Of a line-scan camera: 12800 · 640 mm
function firstLine({ first_line: line, first_mm: mm }) {
  return mm == null ? line : `${line} · ${Number(mm.toFixed(3))} mm`;
}

function facts(verdict) {
  const times = Object.entries(verdict.stage_times).filter(([, value]) => value != null);
  const pairs = [
    [t("Pipeline"), verdict.pipeline],
    [t("Part"), `${verdict.number}${verdict.name ? ` · ${verdict.name}` : ""}`],
    [t("First line"), firstLine(verdict)],
    [t("Serial number"), verdict.serial || null],
    [t("Batch"), verdict.batch || null],
    [t("Recipe"), verdict.recipe || null],
    [t("Raw score"), score(verdict.image_score)],
    [t("Review above"), score(verdict.review_threshold)],
    [t("Reject above"), score(verdict.threshold)],
    [t("Kind"), verdict.shown_kind && el("a", { href: `#kinds/${verdict.pipeline}/${encodeURIComponent(verdict.shown_kind)}` }, kindOf(verdict))],
    [t("Judged to be"), verdict.kind === verdict.shown_kind ? null : (kindName(verdict.kind) ?? t("of no kind"))],
    [t("Kind said by"), verdict.kind_correction && `${verdict.kind_correction.by}, ${stamp(verdict.kind_correction.at)}`],
    [t("p-value of the kind"), verdict.kind_p_value == null ? null : score(verdict.kind_p_value)],
    [t("p-value"), verdict.p_value == null ? null : score(verdict.p_value)],
    ...Object.entries(verdict.measured).map(([name, value]) => [name.replaceAll("_", " "), score(value)]),
    [t("Other format than learnt"), otherFormat(verdict)],
    [t("Regions"), regions(verdict)],
    [t("Stages"), times.map(([name, value]) => `${STAGES[name.replace("_ms", "")] ?? name} ${ms(value)}`).join(", ") + " ms"],
    [t("Camera"), verdict.source],
    [t("Model"), el("span", { class: "mono" }, verdict.model.slice(0, 16))],
    [t("Id"), el("span", { class: "mono" }, verdict.id)],
  ];
  return el("dl", { class: "facts" }, pairs.filter(([, value]) => value != null).map(([name, value]) => el("div", { class: WIDE.includes(name) ? "wide" : null }, el("dt", {}, name), el("dd", {}, value))));
}
