// The device's texts of closed lists in the page's language. Texts of other errors are in no list, and stay as they are.

import { STATES, count, decimal } from "./dom.js";
import { closed, t } from "./words.js";

export const HEALTH = { dark: t("dark"), bright: t("bright"), blurred: t("blurred"), moved: t("moved"), frozen: t("frozen") };

const CAMERA = closed(
  "its thread has died, see the log", "no frame for more than {number} s", "no frame for {number} s", "no data for {number} s", "after {number} frames", "did not open within {number} s",
  "did not open for {number} s", "hangs, no frame for {number} s", "is held by another process", "its reader process was ended", "the stream ended or the connection was lost",
  "the stream has come to its end", "the recording has come to its end", "the host cannot be reached", "the host name cannot be resolved", "cannot be opened",
  "it is in use by another program or gives no images", "no frames", "each would take the other's images", "stop that one, or name another folder",
);

const PIPELINE = closed("the model is loaded and tested", "waits for a model: commission one on the page", "waits for camera {name}", "camera {name} has ended");

// Patterns of a pipeline's faults and of the values in them; the reason of an error stays as it is.
const FAULTS = [
  [/^by (.*?), until (\d\d:\d\d)(?:: (.*))?$/, (name, time, reason) => [t("by {name}, until {time}", { name, time }), reason].filter(Boolean).join(": ")],
  [/^by ([^:]*)(?:: (.*))?$/, (name, reason) => [t("by {name}", { name }), reason].filter(Boolean).join(": ")],
  [/^camera (\S+) is (lost|stalled): (.*)$/, (name, state, reason) => t("camera {name}: {reason}", { name, reason: `${STATES[state]}: ${cameraReason(reason)}` })],
  [/^camera (\S+): (.*)$/, (name, reason) => t("camera {name}: {reason}", { name, reason: cameraReason(reason) })],
  [/^no progress for (\d+) s: the model or a sink hangs$/, (number) => t("no progress for {number} s: the model or a sink hangs", { number })],
  [/^(.*); restarted (\d+) times within (\S+) s, no more$/, (reason, number, seconds) => t("{reason}; restarted {number} times within {seconds} s, no more", { reason, number, seconds })],
  [/^trigger (\S+): (.*)$/, (kind, reason) => t("trigger {kind}: {reason}", { kind, reason })],
];

const SITE = [
  [/^needs a restart: store$/, () => t("needs a restart: store")],
  [/^http: the page stays as it was: (.*)$/, (reason) => t("the page stays as it was: {reason}", { reason })],
  [/^(\S+): keeps its model: (.*)$/, (name, reason) => t("{name} keeps its model: {reason}", { name, reason })],
];

const DRIFT = closed(
  "the camera's images look different", "parts look different, while light, focus and position are as before", "parts look different, or the camera's images do", "parts that pass score higher",
  "parts that pass score lower", "parts that pass score higher than the good images did", "heat maps are warmer all over", "heat maps are cooler all over",
  "more parts than usual are rejected or sent to review", "brighter", "darker", "sharper", "less sharp", "moved to the right", "moved to the left", "moved down", "moved up",
  "the score of parts that pass varies more", "the score of parts that pass varies less", "the warmth of heat maps varies more", "the warmth of heat maps varies less", "brightness varies more",
  "brightness varies less", "sharpness varies more", "sharpness varies less", "place from left to right varies more", "place from left to right varies less", "place from top to bottom varies more",
  "place from top to bottom varies less",
);

const FORMAT = closed("parts are cut off or squeezed", "the region of interest, which is in pixels, shows something else", "fine defects are not seen");

// Values of `other_format` in a verdict's record.
const [PROPORTIONS, SIZE, SMALL] = Object.values(FORMAT);
const OTHER_FORMAT = { proportions: PROPORTIONS, size: SIZE, small: SMALL };

export const imagesAre = (health) => t("The images are {health}", { health: health.map((word) => HEALTH[word] ?? word).join(", ") });

const worded = (text, patterns) => {
  for (const [pattern, words] of patterns) {
    const found = pattern.exec(text);
    if (found) return words(...found.slice(1));
  }
  return text;
};

// Reason why a camera gives no images: its own text follows its address, in parts.
export function cameraReason(text) {
  const known = cameraPart(text);
  return known ?? text?.split(/(: |; |, (?=after ))/).map((part) => cameraPart(part) ?? part).join("");
}

function cameraPart(text) {
  const [, process] = text?.match(/^is held by process (.*)$/) ?? [];
  if (process) return t("is held by process {process}", { process });
  const [number] = text?.match(/\d+(\.\d+)?/) ?? [];
  const known = CAMERA[number ? text.replace(number, "{number}") : text];
  return known?.replace("{number}", number && decimal(Number(number), number.includes(".") ? 1 : 0));
}

// Reason why some of the site file is not in force.
export const siteReason = (text) => text.replace(/^(some of )?the site file is not in force: /, "").split("; ").map((part) => worded(part, SITE)).join("; ");

// Reason for frames without a verdict although nothing is wrong.
export function unaskedBy({ unasked, taken, trigger }) {
  return t("{number} of {frames} frames were not asked for by the trigger {kind}", { number: count(unasked), frames: count(taken), kind: trigger });
}

export const uninspected = (number) => number > 0 && t("Frames that went by uninspected in pauses: {number}", { number: count(number) });

// Reason why a sent image was not judged.
export function judgeReason({ status, message }) {
  const unreadable = status === 415 || message.includes("cannot be read as an image");
  return unreadable ? t("it cannot be read as an image; JPEG, PNG, BMP, TIFF, PNM and WebP files are taken") : message;
}

// Reason why a pipeline does not judge.
export function pipelineReason(text) {
  const [, name] = /camera (\S+)/.exec(text ?? "") ?? [];
  const known = PIPELINE[name ? text.replace(name, "{name}") : text];
  return known?.replace("{name}", name) ?? worded(text, FAULTS);
}

const ofRecipe = (recipe, reason) => (recipe ? t("recipe {name}: {reason}", { name: recipe, reason }) : reason);

// Consequence of a frame in another format than the model learnt; empty if it fits.
export const otherFormat = (verdict) => verdict.other_format && (OTHER_FORMAT[verdict.other_format] ?? verdict.other_format);

// Difference between frames and those that the model learnt.
export function formatReason(text) {
  const [, recipe, given, learnt, what] = /^(?:recipe (.+): )?frames of (.+) pixels where the model learnt ([^:]+): ([^;]+);/.exec(text) ?? [];
  if (!what) return text;
  const sizes = { given: given.replace(" x ", " × "), learnt: learnt.replace(" x ", " × ") };
  return ofRecipe(recipe, t("frames of {given} pixels where the model learnt {learnt}: verdicts may be wrong, {what}; has the format or the region of the camera changed?", { ...sizes, what: FORMAT[what] ?? what }));
}

// Change that drift reports, with the measures in brackets; with the recipe if recipes choose the model.
export function driftReason(text) {
  const [, recipe, what, changes] = /^(?:recipe (.+): )?([^:]*) \((.*)\)$/.exec(text) ?? [];
  if (!what) return text;
  const reason = `${DRIFT[what] ?? what} (${changes.split(", ").map((change) => DRIFT[change] ?? change).join(", ")})`;
  return ofRecipe(recipe, reason);
}
