// Alarms, faults and drift: a banner over every view, a sound, and the newest of them on System.

import { get } from "./api.js";
import { acknowledge } from "./dialogs.js";
import { STATES, by, count, decimal, el, focusedData, icon, say, span, stamp } from "./dom.js";
import { cameraReason, driftReason, formatReason, imagesAre, pipelineReason, siteReason } from "./reasons.js";
import { AlarmSound } from "./sound.js";
import { t } from "./words.js";

const LOAD_EVERY_MS = 5000;
const SMALL = matchMedia("(max-height: 700px), (max-width: 760px)");
const MAX_LISTED = 30;
const TITLES = {
  rejects_in_a_row: t("Rejects in a row"), yield_below: t("The yield is low"), no_part: t("No part comes"), not_inspected: t("Parts are not inspected in time"), frame_format: t("Frames of another format"),
  camera: t("Camera without images"), images: t("The camera's images"), pipeline: t("Pipeline in fault"), drift: t("Drift"), sink: t("Receiver in fault"), evidence: t("Evidence in fault"),
  site: t("The site file is not in force"),
};
const ICONS = { critical: "fault", warning: "review" };

// Details of a notice: measured values and texts of a closed list in the page's language; other texts as the device sends them.
const DETAILS = {
  rejects_in_a_row: ({ value }) => t("{count} parts in a row were rejected: is it the right model for this part?", { count: count(value) }),
  yield_below: ({ value, value_now: now, limit }) => {
    const then = t("{value} % of the newest parts passed, the limit is {limit} %", { value: decimal(value, 1), limit: count(limit) });
    return now == null ? then : `${then}; ${t("now {value} %", { value: decimal(now, 1) })}`;
  },
  no_part: ({ limit }) => t("no part for {time}", { time: span(limit) }),
  not_inspected: ({ text }) => notInspected(...text.match(/\d+/g).map(Number)),
  frame_format: ({ text }) => formatReason(text),
  camera: ({ text }) => withState(text),
  images: ({ text }) => imagesAre(text.replace(/^images are /, "").split(", ")),
  drift: ({ text }) => driftReason(text),
  pipeline: ({ text }) => pipelineReason(text),
  site: ({ text }) => siteReason(text),
};
const ALARMS = ["rejects_in_a_row", "yield_below", "no_part", "not_inspected", "frame_format"];

// "7 of the last minute's 120 frames had no verdict in time (5 were not judged, 2 were late)..."
function notInspected(bad, frames, missed, late) {
  const counts = { bad: count(bad), frames: count(frames), missed: count(missed), late: count(late) };
  return t("{bad} of the last minute's {frames} frames without a verdict in time ({missed} not judged, {late} late): other work on this machine, or too slow a model?", counts);
}

// "lost: no route to host"
function withState(text) {
  const [state, ...reason] = text.split(": ");
  return [STATES[state] ?? state, cameraReason(reason.join(": "))].filter(Boolean).join(": ");
}
const detail = (notice) => DETAILS[notice.kind]?.(notice) ?? notice.text;
// Alarms of the past are shown without their measured values.
// After an accepted site file, one of its parts may still wait.
const SOME = t("Some of the site file is not in force");
const titleOf = ({ kind, text }) => (kind === "site" && text.startsWith("some ") ? SOME : TITLES[kind]);

export const remembered = (notice) => (ALARMS.includes(notice.kind) ? titleOf(notice) : `${titleOf(notice)}: ${detail(notice)}`);
// There is only one store and one site file, so they need no name.
const title = (notice) => (["store", "site"].includes(notice.about) ? titleOf(notice) : `${notice.name}: ${titleOf(notice)}`);
const word = (notice) => (notice.severity === "warning" ? t("Warning") : ALARMS.includes(notice.kind) ? t("Alarm") : t("Fault"));
const graded = (notice) => el("span", { class: "severity", "data-severity": notice.severity }, icon(ICONS[notice.severity]), word(notice));
const acknowledging = (notice) =>
  el("button", { "data-needs": "operate", "data-notice": notice.id, "aria-label": `${t("Acknowledge")}: ${title(notice)}`, onclick: () => acknowledge(notice, title(notice)) }, t("Acknowledge"));
const urgency = (notice) => Number(notice.severity === "critical");
const byUrgency = (one, other) => urgency(other) - urgency(one) || other.since.localeCompare(one.since);

export class NoticesView {
  constructor() {
    this.loadedAt = 0;
    this.turn = 0;
    this.known = null;
    this.drawn = "";
    this.standing = [];
    this.sound = new AlarmSound(() => this.showSound());
    by("sound").addEventListener("change", (event) => this.sound.turn(event.target.checked));
    by("test-tone").addEventListener("click", () => this.sound.test());
    // The line below the banner must still fit on the screen.
    new ResizeObserver(() => document.body.style.setProperty("--notices", `${by("notices").offsetHeight}px`)).observe(by("notices"));
    this.showSound();
  }

  // Events bring news at once; this finds notices whose events were lost.
  refresh() {
    if (Date.now() - this.loadedAt > LOAD_EVERY_MS) this.load();
  }

  async load() {
    this.loadedAt = Date.now();
    const turn = ++this.turn;
    try {
      const found = await get(`/api/notices?limit=${MAX_LISTED}`);
      if (turn === this.turn) this.show(found);
    } catch (problem) {
      if (problem.status === undefined) throw problem; // what the device refuses, or a lost connection, shows elsewhere
    }
  }

  clear() {
    this.turn += 1;
    this.known = null;
    this.show({ standing: [], resolved: [] });
  }

  show({ standing, resolved }) {
    const drawn = JSON.stringify([standing, resolved]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.standing = standing.toSorted(byUrgency);
    this.showBanner();
    this.announce();
    this.showList([...this.standing, ...resolved]);
  }

  showBanner() {
    const unseen = this.standing.filter((notice) => !notice.acknowledged_at);
    const rows = unseen.slice(0, SMALL.matches ? 1 : 2);
    const more = this.standing.length - rows.length;
    const focused = focusedData().notice;
    by("notices").hidden = this.standing.length === 0;
    by("notices").replaceChildren(...rows.map((notice) => this.row(notice)), ...(more ? [this.summary(more, unseen.length > rows.length)] : []));
    if (focused) by("notices").querySelector(`[data-notice="${focused}"]`)?.focus();
    this.sound.ring(unseen[0]?.severity ?? null);
    this.showSound();
  }

  row(notice) {
    // Parts that a small screen may cut come last.
    const said = el("p", {}, el("b", {}, title(notice)), notice.kind === "drift" && el("a", { href: "#system" }, t("What to do")), el("span", {}, detail(notice)));
    return el("div", { class: "notice", "data-severity": notice.severity }, graded(notice), said, el("time", { datetime: notice.since }, stamp(notice.since)), acknowledging(notice));
  }

  summary(more, unseen) {
    const text = unseen ? t("{count} more on System", { count: more }) : t("{count} acknowledged, on System", { count: more });
    return el("a", { class: "notice-more", href: "#system" }, text);
  }

  announce() {
    const unseen = this.standing.filter((notice) => !notice.acknowledged_at);
    const news = unseen.filter((notice) => !this.known?.has(notice.id));
    this.known = new Set(unseen.map((notice) => notice.id));
    if (news.length) say(by("notice-said"), news.map((notice) => `${word(notice)}. ${title(notice)}. ${detail(notice)}`).join(" "));
  }

  showList(notices) {
    by("notice-list").replaceChildren(...notices.slice(0, MAX_LISTED).map((notice) => this.listed(notice)));
    by("no-notices").hidden = notices.length > 0;
  }

  listed(notice) {
    const lasted = (Date.parse(notice.resolved_at) - Date.parse(notice.since)) / 1000;
    const name = notice.acknowledged_by;
    const late = notice.resolved_at && notice.acknowledged_at > notice.resolved_at;
    const seen = name && (late ? t("acknowledged by {name}, after its cause was over", { name }) : t("acknowledged by {name}", { name }));
    const state = notice.resolved_at ? t("resolved after {time}", { time: span(lasted) }) : t("active");
    const said = [el("p", {}, el("b", {}, title(notice)), el("span", {}, detail(notice))), el("p", { class: "muted" }, [stamp(notice.since), state, seen].filter(Boolean).join(" · "))];
    return el("li", { "data-stands": !notice.resolved_at }, graded(notice), said, !notice.acknowledged_at && !notice.resolved_at && acknowledging(notice));
  }

  showSound() {
    by("sound").checked = this.sound.wanted;
    const waits = this.sound.wanted && !this.sound.ready;
    by("sound-note").hidden = !waits;
    say(by("sound-note"), waits ? t("The browser lets no page sound before somebody touches it: press Test tone once.") : "");
  }
}
