// The live view: the newest image and verdict of one pipeline, its scores, its latency.

import { fetchImage, get, post } from "./api.js";
import { ScoreChart } from "./chart.js";
import { changeThresholds } from "./dialogs.js";
import { WORDS, badge, beyond, by, clock, count, el, kindOf, ms, percent, say, score, span, titleOf, toast } from "./dom.js";
import { t } from "./words.js";

const LISTED = 60;
const SEEDED = 200;
const IMAGE_EVERY_MS = 200;
const STAGES = ["age", "preprocess", "infer", "score", "smooth", "sink", "total"];
const STAGE_WORDS = { age: t("waiting"), preprocess: t("resize"), infer: t("network"), score: t("scoring"), smooth: t("map"), sink: t("hand over"), total: t("total") };

export class LiveView {
  constructor(open) {
    this.open = open;
    this.pipeline = null;
    this.status = null;
    this.verdicts = [];
    this.newest = null;
    this.lost = false;
    this.shownImage = null;
    this.dropped = 0;
    this.names = {};
    this.turn = 0;
    this.chart = new ScoreChart(by("chart"), by("chart-caption"), open);
    by("overlay").addEventListener("change", () => (this.shownImage = null));
    by("fire").addEventListener("click", () => this.fire());
    by("last-reject").addEventListener("click", () => open(this.verdicts.findLast((one) => one.decision === "reject")));
    by("change-thresholds").addEventListener("click", () => changeThresholds(this.state(), () => this.verdicts));
    this.watchImage();
  }

  state() {
    return this.status?.pipelines.find((pipeline) => pipeline.name === this.pipeline);
  }

  async choose(name) {
    this.pipeline = name;
    this.verdicts = [];
    this.newest = null;
    this.shownImage = null;
    by("live-image").hidden = true;
    by("stream").replaceChildren();
    this.showStatus(this.status);
    await this.load(name);
  }

  async load(name) {
    const turn = ++this.turn;
    this.verdicts = [];
    const { names } = await get(`/api/pipelines/${encodeURIComponent(name)}/kinds?hours=1`);
    const page = await get(`/api/verdicts?limit=${SEEDED}&pipeline=${encodeURIComponent(name)}`);
    if (turn !== this.turn) return;
    this.names = names;
    // What came as an event meanwhile is newer than the page.
    const known = new Set(page.verdicts.map((verdict) => verdict.id));
    const since = this.verdicts.filter((verdict) => !known.has(verdict.id));
    this.verdicts = [...page.verdicts.reverse(), ...since];
    this.newest = this.verdicts.at(-1) || null;
    this.chart.show(this.verdicts);
    by("stream").replaceChildren(...this.verdicts.slice(-LISTED).reverse().map((verdict) => this.row(verdict)));
    this.showVerdict();
  }

  // What people have said of the past may be shown here.
  again() {
    if (this.pipeline) this.load(this.pipeline).catch((problem) => toast(problem.message, true));
  }

  showStatus(status) {
    this.status = status;
    if (!status) return;
    const names = status.pipelines.map((pipeline) => pipeline.name);
    const box = by("pipelines");
    if (box.children.length !== names.length) {
      box.replaceChildren(...names.map((name) => el("button", { onclick: () => this.choose(name) }, name)));
    }
    box.hidden = names.length < 2;
    [...box.children].forEach((button) => button.setAttribute("aria-pressed", button.textContent === this.pipeline));
    if (!names.includes(this.pipeline)) {
      if (names.length) this.choose(names[0]).catch((problem) => toast(problem.message, true));
      return;
    }
    this.showVerdict();
    this.showDrift();
    this.showLatency();
  }

  connection(lost) {
    this.lost = lost;
    this.showVerdict();
  }

  hear(verdict) {
    if (verdict.pipeline !== this.pipeline) return;
    this.newest = verdict;
    this.verdicts.push(verdict);
    if (this.verdicts.length > 2 * SEEDED) this.verdicts.splice(0, SEEDED);
    this.chart.add(verdict);
    const stream = by("stream");
    stream.prepend(this.row(verdict));
    while (stream.children.length > LISTED) stream.lastChild.remove();
    this.showVerdict();
  }

  missed(number) {
    this.dropped += number;
    by("dropped").hidden = false;
    say(by("dropped"), t("{number} not shown: they came too fast for this browser", { number: count(this.dropped) }));
  }

  row(verdict) {
    return el(
      "li", {},
      el("button", { onclick: () => this.open(verdict) },
        badge(verdict.decision),
        el("span", { class: "score-of" }, score(verdict.image_score)),
        el("span", { class: "about" }, [kindOf(verdict, this.names), titleOf(verdict)].filter(Boolean).join(" · ")),
        el("time", { datetime: verdict.captured_at }, clock(verdict.captured_at)),
      ),
    );
  }

  // What stands large: never a decision of a pipeline that does not run, or of a device that does not answer.
  headline() {
    const state = this.state();
    if (this.lost) return ["fault", t("No connection"), t("The device does not answer; nothing here is live"), "fault"];
    if (!state) return ["none", t("Waiting"), "", "none"];
    if (state.state !== "running") return ["fault", { starting: t("Starting"), fault: t("Fault"), stopped: t("Stopped") }[state.state], state.reason || "", "fault"];
    if (!this.newest) return ["none", t("Waiting"), state.on_request ? t("Waits for a trigger") : t("No verdict yet"), "none"];
    const age_s = Math.max(0, (this.now() - new Date(this.newest.captured_at)) / 1000);
    const decision = this.newest.decision;
    const about = [titleOf(this.newest), kindOf(this.newest, this.names), age_s >= 3 && t("{time} ago", { time: span(age_s) })];
    return [decision, WORDS[decision], about.filter(Boolean).join(", "), decision];
  }

  // By the device's clock: that of a phone may be wrong.
  now() {
    return Date.now() + (this.status?.ahead_ms ?? 0);
  }

  showVerdict() {
    const [look, word, note, shape] = this.headline();
    by("verdict").dataset.decision = look;
    say(by("word"), word);
    say(by("verdict-note"), note);
    by("verdict").querySelector("use").setAttribute("href", `#i-${shape}`);
    const state = this.state();
    const limits = state?.thresholds;
    say(by("score"), score(this.newest?.image_score));
    say(by("review-threshold"), score(limits?.review));
    say(by("reject-threshold"), score(limits?.reject));
    by("fire").hidden = !state?.on_request;
    by("fire").disabled = by("change-thresholds").disabled = this.lost || !limits;
    this.showGauge(limits);
    this.showLastReject();
    const total = Object.values(state?.decisions ?? {}).reduce((sum, value) => sum + value, 0);
    for (const cell of by("verdict").querySelectorAll(".tally > div")) {
      const value = state?.decisions[cell.dataset.decision] ?? 0;
      const share = total ? percent(value, total) : "";
      const dd = cell.querySelector("dd");
      if (dd.dataset.value !== `${value} ${share}`) {
        dd.dataset.value = `${value} ${share}`;
        dd.replaceChildren(count(value), el("small", {}, share));
      }
    }
  }

  showDrift() {
    const drift = this.state()?.drift;
    by("drift").hidden = drift?.state !== "warning";
    if (!by("drift").hidden) say(by("drift-reason"), t("since part {number}: {reason}", { number: count(drift.alarm_part), reason: drift.reason }));
  }

  showGauge(limits) {
    const gauge = by("gauge");
    gauge.hidden = !limits || beyond(limits.reject) || this.newest?.image_score == null;
    if (gauge.hidden) return;
    const most = Math.max(limits.reject * 1.5, this.newest.image_score * 1.05, 1e-9);
    const place = (value) => `${Math.min(100, Math.max(0, (100 * value) / most))}%`;
    gauge.querySelector(".reach").style.width = place(this.newest.image_score);
    gauge.querySelector(".needle").style.left = place(this.newest.image_score);
    gauge.querySelector(".mark.review").style.left = place(limits.review);
    gauge.querySelector(".mark.reject").style.left = place(limits.reject);
  }

  // A fast line shows a reject for a moment only.
  showLastReject() {
    const button = by("last-reject");
    const last = this.verdicts.findLast((verdict) => verdict.decision === "reject");
    button.hidden = !last;
    if (!last) return;
    const age_s = Math.max(0, (this.now() - new Date(last.captured_at)) / 1000);
    const text = [titleOf(last), kindOf(last, this.names) ?? score(last.image_score)].join(", ");
    if (button.dataset.id !== last.id || button.dataset.text !== text) button.replaceChildren(el("span", {}, el("b", {}, t("Last reject")), ` ${text}`), el("span", { class: "muted" }));
    Object.assign(button.dataset, { id: last.id, text });
    say(button.lastChild, t("{time} ago", { time: span(Math.round(age_s)) }));
  }

  showLatency() {
    const latency = this.state()?.latency ?? {};
    const stages = STAGES.filter((stage) => stage in latency);
    say(by("latency-note"), stages.length ? t("{number} parts, in milliseconds", { number: count(latency[stages[0]].n) }) : "");
    if (!stages.length) {
      by("latency").replaceChildren(el("p", { class: "empty" }, t("No part was judged yet")));
      return;
    }
    const most = latency.total?.p99_ms || 1;
    const bar = (stage) => {
      const [slow, usual] = [el("i"), el("i")];
      slow.style.width = `${Math.min(100, (100 * latency[stage].p99_ms) / most)}%`;
      usual.style.width = `${Math.min(100, (100 * latency[stage].p50_ms) / most)}%`;
      return el("span", { class: "bar-of", title: t("p50 dark, p99 light") }, slow, usual);
    };
    const columns = { p50: "p50", p90: "p90", p99: "p99", p99_9: "p99.9", max: t("max") };
    const head = el("tr", {}, el("th", {}, t("Stage")), el("th", {}), Object.values(columns).map((name) => el("th", { class: "number" }, name)));
    const rows = stages.map((stage) =>
      el("tr", {}, el("td", {}, STAGE_WORDS[stage]), el("td", { class: "stage-bar" }, bar(stage)), Object.keys(columns).map((name) => el("td", { class: "number" }, ms(latency[stage][`${name}_ms`])))),
    );
    by("latency").replaceChildren(el("table", { class: "latency" }, el("thead", {}, head), el("tbody", {}, rows)));
  }

  async fire() {
    try {
      await post(`/api/pipelines/${this.pipeline}/trigger`);
      toast(t("The next part of {pipeline} is judged", { pipeline: this.pipeline }));
    } catch (problem) {
      toast(problem.message, true);
    }
  }

  // One request at a time, and none while nobody looks.
  async watchImage() {
    for (;;) {
      if (this.pipeline && !this.lost && !document.hidden && !by("live").hidden) {
        try {
          await this.loadImage();
        } catch {
          await pause(1000); // the status shows what is wrong
        }
      }
      await pause(IMAGE_EVERY_MS);
    }
  }

  async loadImage() {
    const name = this.pipeline;
    const overlay = by("overlay").checked;
    const frame = by("live-image").parentElement;
    const width = Math.min(1280, Math.ceil((frame.clientWidth * devicePixelRatio) / 160) * 160 || 640);
    const found = await fetchImage(`/api/pipelines/${name}/image?overlay=${overlay}&width=${width}`, this.shownImage);
    if (!found || name !== this.pipeline || overlay !== by("overlay").checked) return;
    const image = by("live-image");
    const before = image.src;
    image.src = URL.createObjectURL(found.blob);
    await image.decode();
    if (before.startsWith("blob:")) URL.revokeObjectURL(before);
    image.hidden = false;
    by("no-image").hidden = true;
    this.shownImage = image.dataset.frame = found.id;
    image.dataset.overlay = overlay;
    const verdict = this.verdicts.findLast((one) => one.id === found.id);
    say(by("image-of"), verdict ? [titleOf(verdict), clock(verdict.captured_at), this.state()?.camera].join(" · ") : (this.state()?.camera ?? ""));
  }
}

const pause = (time_ms) => new Promise((resolve) => setTimeout(resolve, time_ms));
