// Elements and texts. Received text is never taken for markup.

import { locale, t } from "./words.js";

/** @type {(id: string) => any} An element of the page, of whatever kind it is. */
export const by = (id) => document.getElementById(id);

/** @type {() => any} What `data-` attributes of the element with the focus say. */
export const focusedData = () => (document.activeElement instanceof HTMLElement || document.activeElement instanceof SVGElement ? { ...document.activeElement.dataset } : {});

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

export const modelName = (path) => path.split("/").at(-1);

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export const WORDS = { ok: t("OK"), review: t("Review"), reject: t("Reject"), fault: t("Fault") };

export const badge = (decision) => el("span", { class: "badge", "data-decision": decision }, icon(decision), WORDS[decision]);

// Title of a verdict for people: the part's name if it has one, else its file, else its number.
export const titleOf = (verdict) => verdict.serial || verdict.name || t("part {number}", { number: verdict.number });

// Kind of a verdict as people call it; an event has only the model's name, which `names` may translate.
export const kindOf = (verdict, names = {}) => kindName(verdict.shown_kind ?? (Object.hasOwn(names, verdict.kind) ? names[verdict.kind] : verdict.kind));

// Kinds are named by models and people, but for this one.
export const UNKNOWN_KIND = "unknown kind";
export const kindName = (kind) => (kind === UNKNOWN_KIND ? t("unknown kind") : kind);

const STATE_ICONS = { normal: "up", watch: "review", bad: "fault" };

// Grade of a state for a person: normal, to watch, or to act on.
export function grade(state) {
  if (["streaming", "running"].includes(state)) return "normal";
  return ["connecting", "starting", "paused", "stalled", "ended"].includes(state) ? "watch" : "bad";
}

export const STATES = {
  connecting: t("connecting"), streaming: t("streaming"), stalled: t("stalled"), lost: t("lost"), ended: t("ended"),
  starting: t("starting"), running: t("running"), paused: t("paused"), fault: t("fault"), stopped: t("stopped"), working: t("working"), problem: t("problem"),
};

export function stateBadge(state, graded = grade(state)) {
  return el("span", { class: "badge", "data-state": graded }, icon(STATE_ICONS[graded]), STATES[state] ?? state);
}

// Sets the text of an element only if it differs, so that screen readers and selections are not disturbed.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Scrolls a list until one of its items is visible, and nothing else.
export function reveal(list, item) {
  const [box, seen] = [list.getBoundingClientRect(), item.getBoundingClientRect()];
  list.scrollLeft += Math.min(0, seen.left - box.left) || Math.max(0, seen.right - box.right);
  list.scrollTop += Math.min(0, seen.top - box.top) || Math.max(0, seen.bottom - box.bottom);
}

// Unknown thresholds are beyond every score.
export const beyond = (value) => Math.abs(value) >= 1e30;

const DIGITS = new Intl.NumberFormat(locale, { minimumSignificantDigits: 4, maximumSignificantDigits: 4, useGrouping: false });
const SMALL = new Intl.NumberFormat(locale, { notation: "scientific", maximumFractionDigits: 2 });

// Always the same number of digits, so that scores in a column can be compared.
export function score(value) {
  if (value == null || beyond(value)) return "—";
  const size = Math.abs(value);
  return (value !== 0 && (size >= 1e6 || size < 1e-3) ? SMALL : DIGITS).format(value);
}

// Score where 0 is the typical good part and 100 the limit of its time; null without such a scale.
export function scaled(value, { typical_score: typical, threshold: limit }) {
  if (value == null || typical == null || limit == null || beyond(limit) || !(limit > typical)) return null;
  return 100 * ((value - typical) / (limit - typical));
}

// Whole, never below 0, and never rounded onto the limit: 100 has passed, 100.2 has not.
export function scaledText(value) {
  if (value == null) return "—";
  let places = 0;
  while (value !== 100 && Number(value.toFixed(places)) === 100 && places < 15) places += 1;
  return Math.max(0, value).toLocaleString(locale, { maximumFractionDigits: places, useGrouping: false });
}

// A verdict's score as people read it: raw if there is no scale.
export function scoreText(verdict) {
  return verdict.score == null ? score(verdict.image_score) : scaledText(verdict.score);
}

export const decimal = (value, places) => value.toLocaleString(locale, { minimumFractionDigits: places, maximumFractionDigits: places });
export const percent = (part, whole) => (whole ? `${decimal((100 * part) / whole, 1)} %` : "—");
export const count = (value) => (value == null ? "—" : value.toLocaleString(locale));
export const ms = (value) => (value == null ? "—" : decimal(value, value < 10 ? 2 : value < 100 ? 1 : 0));

const TIME = new Intl.DateTimeFormat(locale, { timeStyle: "medium", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric" });

export function clock(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.valueOf()) ? "—" : TIME.format(date);
}

export const dated = (iso) => `${DAY.format(new Date(iso))} ${clock(iso)}`;

// The date is shown unless it is today.
export function stamp(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.valueOf()) || date.toDateString() === new Date().toDateString() ? clock(iso) : dated(iso);
}

export function span(seconds) {
  if (seconds == null) return "—";
  if (seconds < 10) return t("{number} s", { number: decimal(seconds, seconds % 1 ? 1 : 0) });
  if (seconds < 100) return t("{number} s", { number: Math.round(seconds) });
  if (seconds < 5400) return t("{number} min", { number: Math.round(seconds / 60) });
  if (seconds < 172_800) return t("{number} h", { number: decimal(seconds / 3600, 1) });
  return t("{number} days", { number: Math.round(seconds / 86_400) });
}

export const complain = (problem) => toast(problem.message, true);

let hiding;
export function toast(text, bad = false) {
  const box = by("toast");
  box.textContent = text;
  box.toggleAttribute("data-bad", bad);
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), bad ? 8000 : 4000);
}
