// Kinds of defects: their counts in a time, their places on the part, their images, their names, and where they begin.

import { fetchImage, get } from "./api.js";
import { mergeKind, renameKind, splitKind } from "./dialogs.js";
import { UNKNOWN_KIND, by, count, el, kindName, percent, say, scoreText, stamp, toast } from "./dom.js";
import { linkTo } from "./evidence.js";
import { Heaps } from "./heaps.js";
import { drawPositions } from "./positions.js";
import { t } from "./words.js";

const PAGE = 24;
const PERIODS = { 8: { interval_hours: 1, words: t("the last 8 hours") }, 24: { interval_hours: 8, words: t("the last day") }, 168: { interval_hours: 8, words: t("the last week") } };

export class KindsView {
  constructor() {
    this.hours = 8;
    this.pipeline = null;
    this.heaps = new Heaps();
    this.kind = null;
    this.found = null;
    this.before = null;
    this.turn = 0;
    by("kinds-period").addEventListener("click", ({ target: { dataset } }) => dataset.hours && Object.assign(this, { hours: Number(dataset.hours) }).load());
    by("kinds-pipeline").addEventListener("change", () => this.go(by("kinds-pipeline").value, null));
    by("kinds-again").addEventListener("click", () => this.load());
    by("all-kinds").addEventListener("click", () => this.go(this.pipeline, null));
    by("kind-older").addEventListener("click", () => this.images(this.before));
    by("rename-kind").addEventListener("click", () => renameKind(this.pipeline, this.kind, (name) => this.go(this.pipeline, name)));
    by("merge-kind").addEventListener("click", () => mergeKind(this.pipeline, this.kind, this.others(), (into) => this.go(this.pipeline, into)));
    by("split-kind").addEventListener("click", () => splitKind(this.pipeline, this.kind, this.judged(this.kind)));
  }

  showStatus(status) {
    const names = status.pipelines.map((pipeline) => pipeline.name);
    by("kinds-pipeline-label").hidden = names.length < 2;
    const select = by("kinds-pipeline");
    if ([...select.options].map((option) => option.value).join() !== names.join()) select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    by("kinds-unknown").hidden = status.pipelines.find((pipeline) => pipeline.name === this.pipeline)?.knows_kinds ?? true;
    const hasNamed = Object.keys(this.found?.known ?? {}).length > 0;
    say(by("kinds-unknown"), hasNamed ? t("The model names no kinds now, as it was taught or exchanged after they were named: sort its last rejects, and name the heaps again.") : t("This model knows no kinds of defects yet: sort its last rejects, and name the heaps."));
    if (this.pipeline) select.value = this.pipeline;
    else if (names.length && !by("kinds").hidden) this.show(names[0], null);
    if (this.pipeline && !by("kinds").hidden) this.heaps.follow(this.pipeline);
  }

  go(pipeline, kind) {
    location.hash = kind === null ? `kinds/${pipeline}` : `kinds/${pipeline}/${encodeURIComponent(kind)}`;
  }

  async show(pipeline, kind) {
    this.pipeline = pipeline ?? this.pipeline;
    this.kind = kind ? decodeURIComponent(kind) : null;
    if (this.pipeline) await this.load();
  }

  // The model's kinds that are shown as one.
  judged(kind) {
    return Object.hasOwn(this.found.known, kind) ? this.found.known[kind] : [];
  }

  others() {
    return Object.keys(this.found.known).filter((each) => each !== this.kind && each !== UNKNOWN_KIND);
  }

  async load() {
    const turn = ++this.turn; // what was asked before and comes late is not shown
    for (const button of by("kinds-period").children) button.setAttribute("aria-pressed", Number(button.dataset.hours) === this.hours);
    const path = `/api/pipelines/${this.pipeline}`;
    const asked = { hours: String(this.hours) };
    try {
      const found = await get(`${path}/kinds?${new URLSearchParams({ ...asked, interval_hours: String(PERIODS[this.hours].interval_hours) })}`);
      if (turn !== this.turn) return;
      this.found = found;
      this.heaps.show(this.pipeline, this.hours, Object.keys(found.known).filter((kind) => kind !== UNKNOWN_KIND));
      this.pareto();
      this.actions();
      const positions = await get(`${path}/positions?${new URLSearchParams(this.kind === null ? asked : { ...asked, kind: this.kind })}`);
      const behind = await fetchImage(`${path}/image?overlay=false&width=640`);
      if (turn !== this.turn) return;
      await drawPositions(by("positions"), by("positions-note"), positions, behind?.blob);
      await this.images();
    } catch (problem) {
      toast(problem.message, true);
    }
  }

  pareto() {
    const { kinds, unsorted, false_rejects } = this.found;
    const total = kinds.reduce((sum, each) => sum + each.count, unsorted);
    const rows = [...kinds, ...(unsorted ? [{ kind: null, count: unsorted }] : [])];
    let sum = 0;
    by("pareto").replaceChildren(...rows.map((each) => this.row(each, (sum += each.count), total)));
    by("no-kinds").hidden = total > 0;
    by("pareto-head").hidden = !total;
    const marked = false_rejects ? `; ${t("{number} more were marked as false rejects", { number: count(false_rejects) })}` : "";
    const values = { number: count(total), period: PERIODS[this.hours].words };
    by("kinds-note").textContent = (total === 1 ? t("1 reject in {period}", values) : t("{number} rejects in {period}", values)) + marked;
  }

  row({ kind, count: number }, sum, total) {
    const [all, mine] = [el("i"), el("i")];
    all.style.width = `${(100 * sum) / total}%`;
    mine.style.width = `${(100 * number) / total}%`;
    const others = this.judged(kind).filter((each) => each !== kind);
    const name = el("span", { class: "kind-name" }, kindName(kind) ?? t("unnamed"), others.length > 0 && el("small", {}, others.join(", ")));
    const cells = [name, el("span", { class: "bar-of" }, all, mine), this.trend(kind), number_(count(number)), number_(percent(number, total)), number_(percent(sum, total))];
    const about = { class: "pareto-row", "data-kind": kind, "data-unknown": kind === null || kind === UNKNOWN_KIND };
    if (kind === null) return el("li", {}, el("div", about, cells));
    const label = t("{kind}: {number}, {share}, cumulative {sum}", { kind: kindName(kind), number, share: percent(number, total), sum: percent(sum, total) });
    return el("li", {}, el("button", { ...about, "aria-label": label, "aria-current": kind === this.kind ? "true" : null, onclick: () => this.go(this.pipeline, kind) }, cells));
  }

  // A column for each interval, the newest at the right.
  trend(kind) {
    const numbers = this.found.intervals.map(({ counts }) => (Object.hasOwn(counts, kind) ? counts[kind] : 0));
    const most = Math.max(1, ...this.found.intervals.flatMap(({ counts }) => Object.values(counts)));
    const columns = numbers.map((value) => {
      const column = el("i", { "data-none": value === 0 });
      column.style.height = `${Math.max(6, (100 * value) / most)}%`;
      return column;
    });
    return el("span", { class: "trend", title: numbers.join(", ") }, columns);
  }

  actions() {
    const known = this.kind !== UNKNOWN_KIND && Object.hasOwn(this.found.known, this.kind);
    by("kind-title").textContent = kindName(this.kind) ?? t("All rejects");
    by("all-kinds").hidden = this.kind === null;
    by("rename-kind").hidden = !known;
    by("merge-kind").hidden = !known || !this.others().length;
    by("split-kind").hidden = !known || !this.judged(this.kind).some((each) => Object.hasOwn(this.found.names, each));
  }

  async images(before = null) {
    const query = new URLSearchParams({ limit: String(PAGE), pipeline: this.pipeline, decision: "reject" });
    if (this.kind !== null) query.set("kind", this.kind);
    if (before) query.set("before_id", before);
    const turn = this.turn;
    const page = await get(`/api/verdicts?${query}`);
    if (turn !== this.turn) return;
    const found = page.verdicts.map(thumb);
    if (before) by("kind-images").append(...found);
    else by("kind-images").replaceChildren(...found);
    this.before = page.next_before_id;
    by("kind-older").hidden = !this.before;
    by("no-kind-images").hidden = by("kind-images").children.length > 0;
  }
}

const number_ = (text) => el("span", { class: "number" }, text);

function thumb(verdict) {
  const name = ["heat.jpg", "frame.jpg"].find((each) => verdict.images.includes(each));
  const image = name ? el("img", { src: `/api/verdicts/${verdict.id}/images/${name}?pipeline=${verdict.pipeline}`, alt: "", loading: "lazy" }) : el("span", { class: "no-thumb" }, t("no image"));
  const about = [el("span", {}, kindName(verdict.shown_kind) ?? t("unnamed")), verdict.false_reject && el("span", { class: "marked" }, t("false reject"))];
  return el(
    "li", {},
    el("button", { onclick: () => (location.hash = linkTo(verdict)) }, image, el("span", { class: "about" }, about), el("span", { class: "muted" }, `${stamp(verdict.captured_at)} · ${t("score {score}", { score: scoreText(verdict) })}`)),
  );
}
