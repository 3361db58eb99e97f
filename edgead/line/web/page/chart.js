// The newest scores against their thresholds, drawn on a canvas.

import { WORDS, beyond, clock, scaled, scoreText, titleOf } from "./dom.js";
import { locale, t } from "./words.js";

const MAX_POINTS = 300;
const STEP_PX = 6;
const EDGE = { left: 56, right: 14, top: 10, bottom: 24 };

export class ScoreChart {
  constructor(canvas, caption, open) {
    this.canvas = canvas;
    this.caption = caption;
    this.verdicts = [];
    this.chosen = null;
    this.waiting = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
    addEventListener("theme", () => this.draw());
    canvas.addEventListener("pointermove", (event) => this.choose(this.at(event)));
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("click", (event) => this.at(event) && open(this.at(event)));
  }

  show(verdicts) {
    this.verdicts = verdicts.slice(-MAX_POINTS);
    this.draw();
  }

  add(verdict) {
    this.verdicts.push(verdict);
    if (this.verdicts.length > MAX_POINTS) this.verdicts.shift();
    this.draw();
  }

  // Draws at most once per frame of the screen, however many verdicts came.
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.canvas.clientWidth) this.paint();
    });
  }

  choose(verdict) {
    if (verdict === this.chosen) return;
    this.chosen = verdict;
    this.draw();
  }

  at(event) {
    const right = this.canvas.getBoundingClientRect().right - EDGE.right;
    const back = Math.round((right - event.clientX) / this.step());
    return this.verdicts.at(-1 - Math.min(Math.max(back, 0), this.verdicts.length - 1)) || null;
  }

  step() {
    return (this.canvas.clientWidth - EDGE.left - EDGE.right) / (this.slots() - 1);
  }

  slots() {
    return Math.min(MAX_POINTS, Math.max(20, Math.floor((this.canvas.clientWidth - EDGE.left - EDGE.right) / STEP_PX)));
  }

  paint() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const shown = this.verdicts.slice(-this.slots()).filter((verdict) => verdict.image_score != null);
    // On the scale that each was judged by, where there is one; below 0 lies what is more usual than the typical part.
    const relative = shown.length > 0 && scaled(shown.at(-1).image_score, shown.at(-1)) !== null;
    const level = (v, value) => (value == null || beyond(value) ? null : relative ? scaled(value, v) : value);
    const values = shown.flatMap((v) => [v.image_score, v.threshold, v.review_threshold].map((value) => level(v, value))).filter((value) => value !== null);
    if (!values.length) return;
    const ticks = niceTicks(Math.min(...values), Math.max(...values));
    const [low, high] = [ticks[0], ticks.at(-1)];
    // The newest is at the right edge, even if there are few.
    const x = (index) => EDGE.left + (index + Math.max(0, this.slots() - shown.length)) * this.step();
    const y = (value) => height - EDGE.bottom - ((value - low) / (high - low)) * (height - EDGE.top - EDGE.bottom);
    this.grid(pen, ticks, y, colour);
    this.line(pen, shown, x, (v) => level(v, v.review_threshold), y, colour("review-text"), [6, 4]);
    this.line(pen, shown, x, (v) => level(v, v.threshold), y, colour("reject"), []);
    shown.forEach((verdict, index) => {
      const value = level(verdict, verdict.image_score);
      if (value !== null) mark(pen, verdict.decision, x(index), y(value), colour, verdict === this.chosen);
    });
    pen.fillStyle = colour("muted");
    pen.textAlign = "right";
    pen.fillText(t("newest {time}", { time: clock(shown.at(-1).captured_at) }), width - EDGE.right, height - 7);
    pen.textAlign = "left";
    pen.fillText(clock(shown[0].captured_at), EDGE.left, height - 7);
    this.describe(shown);
  }

  grid(pen, ticks, y, colour) {
    const width = this.canvas.clientWidth;
    pen.font = `12px ${getComputedStyle(this.canvas).fontFamily}`;
    pen.textAlign = "right";
    pen.fillStyle = colour("muted");
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    for (const tick of ticks) {
      const level = Math.round(y(tick)) + 0.5;
      pen.beginPath();
      pen.moveTo(EDGE.left, level);
      pen.lineTo(width - EDGE.right, level);
      pen.stroke();
      pen.fillText(tick.toLocaleString(locale), EDGE.left - 8, level + 4);
    }
  }

  // A line with steps: each verdict has the threshold of its time.
  line(pen, shown, x, threshold, y, stroke, dashes) {
    pen.strokeStyle = stroke;
    pen.lineWidth = 2;
    pen.setLineDash(dashes);
    pen.beginPath();
    let last = null;
    shown.forEach((verdict, index) => {
      const value = threshold(verdict);
      if (value === null) return (last = null);
      const left = x(index) - this.step() / 2;
      if (last === null) pen.moveTo(index ? left : EDGE.left, y(value));
      else if (last !== value) pen.lineTo(left, y(last)), pen.lineTo(left, y(value));
      pen.lineTo(x(index), y(value));
      last = value;
    });
    pen.stroke();
    pen.setLineDash([]);
  }

  describe(shown) {
    const of = (decision) => shown.filter((verdict) => verdict.decision === decision).length;
    const text = t("The newest {number} scores: {reject} rejected, {review} for review, {ok} OK", { number: shown.length, reject: of("reject"), review: of("review"), ok: of("ok") });
    this.canvas.setAttribute("aria-label", text);
    const one = this.chosen;
    this.caption.textContent = one ? [WORDS[one.decision], t("score {score}", { score: scoreText(one) }), titleOf(one), clock(one.captured_at)].join(" · ") : text;
  }
}

function mark(pen, decision, x, y, colour, chosen) {
  const size = chosen ? 6.5 : decision === "ok" ? 2.6 : 4.5;
  pen.fillStyle = colour({ ok: "chart-ok", review: "review", reject: "reject" }[decision]);
  pen.beginPath();
  if (decision === "ok") pen.arc(x, y, size, 0, 2 * Math.PI);
  else if (decision === "review") pen.moveTo(x, y - size), pen.lineTo(x + size, y + size), pen.lineTo(x - size, y + size);
  else pen.rect(x - size * 0.85, y - size * 0.85, size * 1.7, size * 1.7);
  pen.closePath();
  pen.fill();
  if (chosen || decision === "review") {
    pen.strokeStyle = colour("text");
    pen.lineWidth = chosen ? 2 : 0.7;
    pen.stroke();
  }
}

function niceTicks(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.floor(low / step);
  const last = Math.ceil((high + span * 0.04) / step);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}
