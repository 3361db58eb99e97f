// Elements and texts. Nothing that was received is ever taken for markup.

export const by = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export const WORDS = { ok: "OK", review: "Review", reject: "Reject" };

export const badge = (decision) => el("span", { class: "badge", "data-decision": decision }, icon(decision), WORDS[decision]);

// The kind of a verdict as people call it; an event has the model's word alone, which `names` may translate.
// What a verdict is of, for people: its part where that has a name, else its file, else its number.
export const titleOf = (verdict) => verdict.serial || verdict.name || `frame ${verdict.number}`;
export const kindOf = (verdict, names = {}) => verdict.shown_kind ?? (Object.hasOwn(names, verdict.kind) ? names[verdict.kind] : verdict.kind);

const STATE_ICONS = { normal: "up", watch: "review", bad: "fault" };

// What a state means for a person: nothing, keep an eye on it, or act.
export function grade(state) {
  if (["streaming", "running"].includes(state)) return "normal";
  return ["connecting", "starting", "stalled", "ended"].includes(state) ? "watch" : "bad";
}

export function stateBadge(word, graded = grade(word)) {
  return el("span", { class: "badge", "data-state": graded }, icon(STATE_ICONS[graded]), word);
}

// Text of an element, changed only where it differs: screen readers and selections stay calm.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Thresholds that are not known yet lie beyond every score.
export const beyond = (value) => Math.abs(value) >= 1e30;

// Always as many digits, so that scores below one another can be compared.
export function score(value) {
  if (value == null || beyond(value)) return "—";
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2);
  return size >= 1000 ? value.toFixed(0) : value.toPrecision(4);
}

export const count = (value) => (value == null ? "—" : value.toLocaleString("en").replaceAll(",", "\u2009"));
export const ms = (value) => (value == null ? "—" : value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0));

export function clock(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.valueOf()) ? "—" : date.toLocaleTimeString("en-GB");
}

// The day is shown where it is not this one.
export function stamp(iso) {
  const date = new Date(iso);
  if (date.toDateString() === new Date().toDateString()) return clock(iso);
  return Number.isNaN(date.valueOf()) ? "—" : `${date.toLocaleDateString("en-CA")} ${date.toLocaleTimeString("en-GB")}`;
}

export function span(seconds) {
  if (seconds == null) return "—";
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86_400)} days`;
}

let hiding;
export function toast(text, bad = false) {
  const box = by("toast");
  box.textContent = text;
  box.toggleAttribute("data-bad", bad);
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), bad ? 8000 : 4000);
}
