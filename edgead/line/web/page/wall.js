// Parts as a wall of small images, for mouse or arrow keys; a part that is not good is left out, or put back.

import { me } from "./api.js";
import { by, el } from "./dom.js";
import { t } from "./words.js";

// Name of a part in a sentence: its file if it was sent.
export const partName = ({ files }, name) => files[name] ?? t("part {number}", { number: Number.parseInt(name, 10) });

const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

export class Wall {
  // `change` is called with a name, and "remove" or "restore".
  constructor(change) {
    this.change = change;
    this.leftOut = [];
    this.under = 0; // changes that are on their way to the device
    this.list = by("commission-parts");
    this.list.addEventListener("keydown", (event) => this.press(event));
    by("commission-undo").addEventListener("click", () => this.undo());
  }

  // Images that are there stay: only additions and removals are drawn.
  show(draft, path) {
    const key = `${path} ${draft.begun_at}`;
    if (this.list.dataset.of !== key) this.list.replaceChildren();
    this.list.dataset.of = key;
    const names = [...draft.images, ...draft.left_out].sort();
    const wanted = new Set(names);
    for (const item of [...this.list.children]) if (!wanted.delete(item.dataset.name)) item.remove();
    for (const name of wanted) this.list.prepend(this.item(draft, name, `${path}/images/${name}?width=320&of=${encodeURIComponent(draft.begun_at)}`)); // newest first
    if (!this.under) this.mark(draft.left_out);
    if (!this.list.querySelector("[tabindex='0']")) this.list.firstElementChild?.firstElementChild.setAttribute("tabindex", "0");
    by("commission-wall").hidden = names.length === 0;
  }

  mark(leftOut) {
    this.leftOut = leftOut;
    for (const item of this.list.children) item.firstElementChild.setAttribute("aria-pressed", String(leftOut.includes(item.dataset.name)));
    by("commission-undo").disabled = leftOut.length === 0;
  }

  item(draft, name, src) {
    const image = el("img", { src, alt: "", loading: "lazy", decoding: "async" });
    const button = el("button", { type: "button", class: "take-out", tabindex: "-1", "aria-pressed": "false", "aria-label": t("Leave {part} out", { part: partName(draft, name) }), onclick: () => this.toggle(button), onfocus: () => this.enter(button) }, image, el("span", { class: "number", "aria-hidden": "true" }, draft.files[name] ?? String(Number.parseInt(name, 10))));
    return el("li", { "data-name": name }, button);
  }

  toggle(button) {
    const { name } = button.parentElement.dataset;
    this.put(name, !this.leftOut.includes(name));
  }

  undo() {
    if (this.leftOut.length) this.put(this.leftOut.at(-1), false);
  }

  // Shown at once, since keys are faster than answers.
  async put(name, out) {
    if (me().role !== "engineer") return;
    const others = this.leftOut.filter((other) => other !== name);
    this.mark(out ? [...others, name] : others);
    this.under += 1;
    await this.change(name, out ? "remove" : "restore");
    this.under -= 1;
  }

  // Tab reaches one of them, arrow keys the others.
  enter(button) {
    for (const other of this.list.querySelectorAll("[tabindex='0']")) other.setAttribute("tabindex", "-1");
    button.setAttribute("tabindex", "0");
  }

  press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const button = event.target.closest(".take-out");
    const buttons = [...this.list.querySelectorAll(".take-out")];
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const step = { ...STEPS, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (step) {
      const at = buttons.indexOf(button) + step;
      if (Number.isFinite(step) && (at < 0 || at >= buttons.length)) return event.preventDefault();
      buttons[Math.min(buttons.length - 1, Math.max(0, at))].focus();
    } else if (event.key === "Delete") this.toggle(button);
    else if (event.key === "u" || event.key === "U") this.undo();
    else return;
    event.preventDefault();
  }
}
