// Shapes over an image: drawn and changed with mouse, finger, keyboard or numbers. The first is the region, if there is one.

import { by, el, focusedData } from "./dom.js";
import { between, corners, fresh, isRectangle, moved, withCorner, withNewCorner, withoutCorner } from "./shapes.js";
import { t } from "./words.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LONG_STEP = 10;
const HANDLE_PX = 9;
const NEAREST_DRAG = 3; // pixels of the image: less is a click

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const points = (shape) => corners(shape).map((corner) => corner.join()).join(" ");

export class Drawing {
  // `changed` is called when a change is complete: after a drag, a key or a number.
  constructor(changed) {
    this.board = by("commission-board");
    this.changed = changed;
    this.size = null;
    this.region = null;
    this.ignored = [];
    this.selected = null; // "region", or the index of a place to ignore
    this.tool = null; // what is being drawn: { rectangle, of, points, before }, with the shapes of before until one is kept
    this.drag = null;
    this.board.addEventListener("pointerdown", (event) => this.press(event));
    this.board.addEventListener("pointermove", (event) => this.pull(event));
    for (const end of ["pointerup", "pointercancel"]) this.board.addEventListener(end, () => this.release());
    this.board.addEventListener("dblclick", () => this.finish());
    this.board.addEventListener("keydown", (event) => this.key(event));
    this.board.addEventListener("focusin", (event) => this.focus(event.target.dataset));
    addEventListener("resize", () => this.render());
  }

  get busy() {
    return this.drag !== null || this.tool !== null;
  }

  show(size, region, ignored) {
    if (this.busy) return;
    const after = JSON.stringify([size, region, ignored]);
    if (after === this.shown) return;
    this.shown = after;
    [this.size, this.region, this.ignored] = [size, region, ignored];
    if (this.shape() === undefined) this.selected = null;
    this.render();
    this.numbers();
  }

  shape(of = this.selected) {
    if (of === null) return undefined;
    return of === "region" ? (this.region ?? undefined) : this.ignored[of];
  }

  set(of, shape) {
    if (of === "region") this.region = shape;
    else if (shape === null) this.ignored = this.ignored.filter((_, index) => index !== of);
    else this.ignored = this.ignored.with(of, shape);
  }

  begin(kind, rectangle) {
    if (!this.size) return;
    this.cancel();
    const [of, before] = [kind === "region" ? "region" : this.ignored.length, [this.region, this.ignored]];
    if (kind === "region") this.region = fresh(rectangle, this.size);
    else this.ignored = [...this.ignored, fresh(rectangle, this.size)];
    this.selected = of;
    this.tool = { rectangle, of, points: [], before };
    this.render(); // kept once it is drawn, changed or finished: a click alone must not hide a defect
    this.numbers();
  }

  // A shape that was only begun goes again.
  cancel() {
    if (this.tool?.before) [this.region, this.ignored] = this.tool.before;
    this.tool = null;
    this.render();
    this.numbers();
  }

  finish() {
    if (this.tool === null) return;
    this.tool = null;
    this.done();
  }

  remove(of) {
    const begun = this.tool?.before && this.tool.of === of;
    this.cancel();
    if (begun) return;
    this.set(of, null);
    this.selected = null;
    this.done();
    by("commission-tools").querySelector("button").focus({ preventScroll: true });
  }

  reset() {
    this.tool = null;
    [this.region, this.ignored, this.selected] = [null, [], null];
    this.done();
  }

  // Shows a complete change, and reports it.
  done() {
    if (this.tool) this.tool.before = null;
    this.render();
    this.numbers();
    this.shown = null;
    this.changed({ region: this.region, ignored: this.ignored });
  }

  /** @returns {[number, number]} Where an event is, in pixels of the image. */
  at(event) {
    const box = this.board.getBoundingClientRect();
    const [width, height] = this.size;
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  }

  press(event) {
    if (!this.size || event.button !== 0) return;
    const at = this.at(event);
    const { handle, middle, of } = event.target.dataset;
    if (this.tool?.rectangle) this.drag = { from: at, draw: true };
    else if (this.tool) return this.addPoint(at);
    else if (handle !== undefined) this.drag = { corner: Number(handle) };
    else if (middle !== undefined) {
      this.set(this.selected, withNewCorner(this.shape(), Number(middle)));
      this.drag = { corner: Number(middle) + 1 };
    } else if (of !== undefined) {
      this.select(of);
      this.drag = { from: at, whole: this.shape() };
    } else return;
    this.board.setPointerCapture(event.pointerId);
  }

  pull(event) {
    if (this.drag === null) return;
    const [x, y] = this.at(event);
    const { corner, draw, from, whole } = this.drag;
    if (corner !== undefined) this.set(this.selected, withCorner(this.shape(), corner, [x, y], this.size));
    else if (!draw) this.set(this.selected, moved(whole, [x - from[0], y - from[1]], this.size));
    else if (Math.hypot(x - from[0], y - from[1]) > NEAREST_DRAG) {
      this.set(this.tool.of, between(from, [x, y], this.size));
      this.drag.drawn = true;
    }
    this.render();
    this.numbers();
  }

  release() {
    if (this.drag === null) return;
    const { draw, drawn } = this.drag;
    this.drag = null;
    if (draw && !drawn) return;
    if (draw) this.tool = null;
    this.done();
  }

  // The first corners of a polygon replace the shape it began with.
  addPoint(at) {
    const [width, height] = this.size;
    const [x, y] = [Math.min(width - 1, Math.max(0, Math.round(at[0]))), Math.min(height - 1, Math.max(0, Math.round(at[1])))];
    this.tool.points.push([x, y]);
    if (this.tool.points.length < 3) return this.render();
    this.set(this.tool.of, this.tool.points.flat());
    this.done();
  }

  key(event) {
    const { handle, of } = event.target.dataset;
    if (this.tool && event.key === "Enter") return this.finish();
    if (this.tool && event.key === "Escape") return this.cancel();
    if (this.selected === null || !this.shape()) return;
    const step = STEPS[event.key]?.map((one) => one * (event.shiftKey ? LONG_STEP : 1));
    if (step && handle !== undefined) {
      const [x, y] = corners(this.shape())[handle];
      this.set(this.selected, withCorner(this.shape(), Number(handle), [x + step[0], y + step[1]], this.size));
    } else if (step && of !== undefined) this.set(this.selected, moved(this.shape(), step, this.size));
    else if (event.key === "Delete" && handle !== undefined) this.set(this.selected, withoutCorner(this.shape(), Number(handle)));
    else if (event.key === "Delete" && of !== undefined) return this.remove(this.selected);
    else return;
    event.preventDefault();
    this.done();
  }

  focus({ of }) {
    if (of !== undefined) this.select(of);
  }

  select(of) {
    const chosen = of === "region" ? of : Number(of);
    if (chosen === this.selected) return;
    this.selected = chosen;
    this.render();
    this.numbers();
  }

  render() {
    by("commission-finish").hidden = this.tool === null;
    if (!this.size) return;
    const [width, height] = this.size;
    const focused = this.board.contains(document.activeElement) ? focusedData() : null;
    this.board.parentElement.style.setProperty("--aspect", width / height);
    this.board.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.board.toggleAttribute("data-tool", this.tool !== null);
    const outside = this.region && svg("path", { class: "outside", d: `M0 0H${width}V${height}H0Z M${points(this.region).replaceAll(" ", " L")}Z` });
    const shapes = [...this.ignored.map((shape, index) => this.outline(shape, index)), ...(this.region ? [this.outline(this.region, "region")] : [])];
    const begun = this.tool && this.tool.points.length < 3 ? [svg("polyline", { class: "begun", points: this.tool.points.map(String).join(" ") })] : [];
    this.board.replaceChildren(...(outside ? [outside] : []), ...shapes, ...begun, ...this.handles());
    if (focused) this.refocus(focused);
  }

  outline(shape, of) {
    const name = of === "region" ? t("Region") : t("Ignored place {number}", { number: of + 1 });
    return svg("polygon", { class: of === "region" ? "region" : "ignored", points: points(shape), tabindex: 0, role: "button", "aria-pressed": of === this.selected, "aria-label": t("{name}: arrow keys move it, Delete removes it", { name }), "data-of": of });
  }

  handles() {
    const shape = this.shape();
    if (!shape || this.tool?.points.length) return [];
    const [width] = this.size;
    const radius = (HANDLE_PX * width) / (this.board.clientWidth || width);
    const found = corners(shape);
    const label = (index, [x, y]) => t("Corner {number} at {x}, {y}: arrow keys move it", { number: index + 1, x, y });
    const made = found.map((corner, index) => svg("circle", { class: "handle", cx: corner[0], cy: corner[1], r: radius, tabindex: 0, role: "button", "aria-label": label(index, corner), "data-handle": index }));
    if (isRectangle(shape)) return made;
    const middles = found.map(([x, y], index) => {
      const [nextX, nextY] = found[(index + 1) % found.length];
      return svg("circle", { class: "middle", cx: (x + nextX) / 2, cy: (y + nextY) / 2, r: radius * 0.7, "data-middle": index });
    });
    return [...middles, ...made];
  }

  refocus({ handle, of }) {
    const again = handle !== undefined ? `[data-handle="${handle}"]` : of !== undefined ? `[data-of="${of}"]` : null;
    if (again) this.board.querySelector(again)?.focus({ preventScroll: true });
  }

  // Beside the image: each shape with its numbers, which can be changed as well.
  numbers() {
    const list = by("commission-shapes");
    if (list.contains(document.activeElement) && document.activeElement.tagName === "INPUT") return;
    const all = [...(this.region ? ["region"] : []), ...this.ignored.keys()];
    list.replaceChildren(...all.map((of) => this.row(of)));
    by("commission-no-shapes").hidden = all.length > 0;
  }

  row(of) {
    const shape = this.shape(of);
    const name = of === "region" ? t("Region") : t("Ignored place {number}", { number: of + 1 });
    const hint = isRectangle(shape) ? t("x, y, width, height") : t("x, y of each corner");
    const input = el("input", { value: shape.join(", "), inputmode: "numeric", autocomplete: "off", "aria-label": `${name}: ${hint}`, onchange: (event) => this.enter(of, event.target) });
    const remove = el("button", { type: "button", class: "quiet", "aria-label": t("Remove {name}", { name }), onclick: () => this.remove(of) }, t("Remove"));
    return el("li", { "data-kind": of === "region" ? "region" : "ignored", "data-selected": of === this.selected }, el("span", { class: "shape-name" }, name, el("small", {}, hint)), input, remove);
  }

  enter(of, input) {
    const numbers = input.value.split(/[\s,;]+/).filter(Boolean).map(Number);
    const polygon = numbers.length >= 6 && numbers.length % 2 === 0;
    if (!numbers.every((value) => Number.isInteger(value) && value >= 0) || !(numbers.length === 4 || polygon)) {
      input.setAttribute("aria-invalid", "true");
      return;
    }
    input.blur();
    this.set(of, numbers);
    this.done();
  }
}
