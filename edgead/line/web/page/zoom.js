// Close look at an image: buttons, the wheel, two fingers, a double tap; dragged if it is larger than its frame.

import { el } from "./dom.js";
import { t } from "./words.js";

const MAX_SCALE = 8;
const STEP = 1.5;
const DOUBLE = 3;

export function zoomable(image) {
  let [scale, x, y] = [1, 0, 0];
  const fingers = new Map();
  const frame = el("div", { class: "frame zoom" }, image);

  const draw = () => {
    // Not beyond its edges.
    const [right, down] = [(frame.clientWidth * (scale - 1)) / 2, (frame.clientHeight * (scale - 1)) / 2];
    [x, y] = [Math.min(right, Math.max(-right, x)), Math.min(down, Math.max(-down, y))];
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    frame.toggleAttribute("data-zoomed", scale > 1);
    smaller.disabled = scale <= 1;
    larger.disabled = scale >= MAX_SCALE;
  };
  // The place under the pointer, or the middle, stays where it is.
  const zoomTo = (wanted, event = null) => {
    const next = Math.min(MAX_SCALE, Math.max(1, wanted));
    const box = frame.getBoundingClientRect();
    const [left, top] = event ? [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2] : [0, 0];
    [x, y] = [left - ((left - x) * next) / scale, top - ((top - y) * next) / scale];
    scale = next;
    draw();
  };
  const move = (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, event);
    if (other) return zoomTo((scale * apart(event, other)) / Math.max(1, apart(before, other)), middle(event, other));
    [x, y] = [x + event.clientX - before.clientX, y + event.clientY - before.clientY];
    draw();
  };

  const smaller = el("button", { "aria-label": t("Smaller"), onclick: () => zoomTo(scale / STEP) }, "−");
  const larger = el("button", { "aria-label": t("Larger"), onclick: () => zoomTo(scale * STEP) }, "+");
  frame.append(el("div", { class: "zoom-buttons" }, smaller, larger));
  image.draggable = false;
  image.addEventListener("dblclick", (event) => zoomTo(scale > 1 ? 1 : DOUBLE, event));
  image.addEventListener("pointerdown", (event) => (fingers.set(event.pointerId, event), image.setPointerCapture(event.pointerId)));
  image.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"]) image.addEventListener(end, (event) => fingers.delete(event.pointerId));
  const wheel = (event) => {
    if (scale === 1 && event.deltaY > 0) return; // the page scrolls
    event.preventDefault();
    zoomTo(scale * STEP ** Math.sign(-event.deltaY), event);
  };
  frame.addEventListener("wheel", wheel, { passive: false });
  draw();
  return frame;
}

const apart = (one, other) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
const middle = (one, other) => ({ clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 });
