// The live view: the newest verdict of one pipeline with its image, its last rejects and scores; and a tile for each other line.

import { get, post, upload } from "./api.js";
import { ScoreChart } from "./chart.js";
import { pause, resume } from "./dialogs.js";
import { badge, by, clock, count, el, kindOf, say, scoreText, titleOf, toast } from "./dom.js";
import { offerFiles } from "./folder.js";
import { LiveImage } from "./live_image.js";
import { showLatency } from "./live_latency.js";
import { RejectStrip } from "./live_rejects.js";
import { Tiles } from "./live_tiles.js";
import { showVerdict } from "./live_verdict.js";
import { judgeReason } from "./reasons.js";
import { changeThresholds } from "./thresholds.js";
import { t } from "./words.js";

const LISTED = 60;
const SEEDED = 200;
// After this time without an image, the verdict is shown without one.
const WITHOUT_IMAGE_MS = 2000;
const NAME = 128; // characters of a serial number
const NAMED = 4; // files that were refused, or learnt
const SENT = 20; // of the newest images that there is something to say of

export class LiveView {
  constructor(open) {
    this.open = open;
    this.pipeline = null;
    this.status = null;
    this.verdicts = [];
    this.shown = null; // the verdict whose image is drawn
    this.lost = false;
    this.dropped = 0;
    this.units = []; // counters of the shift
    this.names = {};
    this.turn = 0;
    this.sent = new Map(); // images that were sent and squeezed, or that the model has learnt, by the id of their verdict
    this.chart = new ScoreChart(by("chart"), by("chart-caption"), open);
    this.rejects = new RejectStrip(open);
    this.tiles = new Tiles((name) => this.choose(name));
    this.image = new LiveImage({
      wanted: () => (this.lost ? null : this.pipeline),
      find: (id) => this.verdicts.findLast((verdict) => verdict.id === id),
      show: (verdict) => this.show(verdict),
    });
    by("fire").addEventListener("click", () => this.fire());
    by("pause").addEventListener("click", () => this.pause());
    offerFiles(by("judge-images"), by("judged-files"), ({ files }) => this.judge([...files]));
    by("change-thresholds").addEventListener("click", () => changeThresholds(this.state()));
  }

  state() {
    return this.status?.pipelines.find((pipeline) => pipeline.name === this.pipeline);
  }

  async choose(name) {
    this.pipeline = name;
    this.verdicts = [];
    this.shown = null;
    this.image.forget();
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
    // Verdicts that came as events meanwhile are newer than the loaded ones.
    const known = new Set(page.verdicts.map((verdict) => verdict.id));
    const since = this.verdicts.filter((verdict) => !known.has(verdict.id));
    this.verdicts = [...page.verdicts.reverse(), ...since];
    this.chart.show(this.verdicts);
    by("stream").replaceChildren(...this.verdicts.slice(-LISTED).reverse().map((verdict) => this.row(verdict)));
    this.image.wake();
    this.catchUp();
    await this.rejects.load(name, names);
  }

  // Loads again, since people may have marked or renamed something.
  again() {
    if (this.pipeline) this.load(this.pipeline);
  }

  showStatus(status) {
    this.status = status;
    if (!status) return;
    const names = status.pipelines.map((pipeline) => pipeline.name);
    this.tiles.showStatus(status, this.pipeline, () => this.now());
    if (!names.includes(this.pipeline)) {
      if (names.length) this.choose(names[0]);
      return;
    }
    if (!this.state().judged) this.forget();
    this.catchUp();
    this.showVerdict();
    showLatency(this.state()?.latency ?? {});
  }

  showShift({ units }) {
    this.units = units;
    this.showVerdict();
  }

  connection(lost) {
    this.lost = lost;
    this.showVerdict();
  }

  hear(verdict) {
    this.tiles.hear(verdict);
    if (verdict.pipeline !== this.pipeline) return;
    this.heardAt ??= performance.now();
    this.verdicts.push(verdict);
    if (this.verdicts.length > 2 * SEEDED) this.verdicts.splice(0, SEEDED);
    this.chart.add(verdict);
    const stream = by("stream");
    stream.prepend(this.row(verdict));
    while (stream.children.length > LISTED) stream.lastChild.remove();
    this.rejects.hear(verdict);
    this.image.heard(verdict.id);
  }

  missed(number) {
    this.dropped += number;
    by("dropped").hidden = false;
    say(by("dropped"), t("{number} not shown: they came too fast for this browser", { number: count(this.dropped) }));
  }

  row(verdict) {
    const about = [kindOf(verdict, this.names), titleOf(verdict)].filter(Boolean).join(" · ");
    const shown = [badge(verdict.decision), el("span", { class: "score-of" }, scoreText(verdict)), el("span", { class: "about" }, about), el("time", { datetime: verdict.captured_at }, clock(verdict.captured_at))];
    return el("li", {}, el("button", { onclick: () => this.open(verdict) }, shown));
  }

  // Shows the verdict of the image that was just drawn.
  show(verdict) {
    this.shown = verdict;
    this.heardAt = verdict.id === this.verdicts.at(-1)?.id ? null : performance.now();
    say(by("image-of"), [titleOf(verdict), clock(verdict.captured_at), this.state()?.camera].filter(Boolean).join(" · "));
    by("image-of").title = by("image-of").textContent; // which may be cut
    this.showVerdict();
  }

  // Shows the newest verdict without an image if none was drawn for long: before the first part, or when images fail.
  catchUp() {
    const newest = this.verdicts.at(-1);
    const waited = this.heardAt && performance.now() - this.heardAt > WITHOUT_IMAGE_MS;
    if (!newest || !this.state()?.judged || (this.shown && !waited)) return;
    this.image.forget();
    this.show(newest);
  }

  // Nothing was judged since the start: the verdict before it says nothing about the present.
  forget() {
    if (!this.shown) return;
    this.shown = null;
    this.image.forget();
    say(by("image-of"), "—");
  }

  // By the device's clock: that of a phone may be wrong.
  now() {
    return Date.now() + (this.status?.ahead_ms ?? 0);
  }

  showVerdict() {
    const state = this.state();
    const shift = this.units.find((each) => each.unit === this.pipeline)?.shift;
    showVerdict({ lost: this.lost, state, shift, verdict: this.shown, sent: this.sent.get(this.shown?.id), names: this.names, now: this.now() });
    by("pause").disabled = this.lost || !["running", "paused"].includes(state?.state);
    say(by("pause"), state?.state === "paused" ? t("Resume") : t("Pause"));
    by("fire").hidden = !state?.on_request;
    by("judge-images").hidden = !state?.takes_images;
    for (const id of ["fire", "judge-images", "change-thresholds"]) by(id).disabled = this.lost || !state?.thresholds;
  }

  pause() {
    const { state } = this.state();
    const alike = this.status.pipelines.filter((each) => each.state === state).map(({ name }) => name);
    (state === "paused" ? resume : pause)(this.state(), alike);
  }

  fire() {
    const { pipeline } = this;
    post(`/api/pipelines/${pipeline}/trigger`).then(() => toast(t("The next part of {pipeline} is judged", { pipeline })));
  }

  // Judges files one after the other; each verdict is shown as that of any part.
  async judge(files) {
    const path = `/api/pipelines/${this.pipeline}/judge`;
    const [refused, squeezed, known] = [[], [], []];
    for (const file of files) {
      try {
        const { id, other_shape, learnt } = await upload(`${path}?serial=${encodeURIComponent(file.name.slice(0, NAME))}`, file); // a part is found by its file
        if (other_shape) squeezed.push(file.name);
        if (learnt) known.push(file.name);
        if (other_shape || learnt) {
          this.sent.set(id, { shape: other_shape, learnt });
          if (this.sent.size > SENT) this.sent.delete(this.sent.keys().next().value);
          this.showVerdict();
        }
      } catch (problem) {
        refused.push(`${file.name}: ${judgeReason(problem)}`);
        toast(refused.slice(-NAMED).join("\n"), true);
      }
    }
    if (files.length === 1) return;
    const all = count(files.length);
    const found = [
      ...refused.slice(-NAMED),
      squeezed.length && t("{number} of {all} images have another shape than the model learnt: {name} first", { number: count(squeezed.length), all, name: squeezed[0] }),
      known.length && t("{number} of {all} images were learnt by this model, their scores say nothing of new parts: {names}", { number: count(known.length), all, names: [...known.slice(0, NAMED), ...(known.length > NAMED ? ["…"] : [])].join(", ") }),
    ].filter(Boolean);
    if (found.length) toast(found.join("\n"), true);
  }
}
