// Requests to the daemon. Every refusal becomes a Problem, whose message can be shown.

import { chosenLanguage, t } from "./words.js";

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const TIMEOUT_MS = 8000;
let signedInAs = { name: "", ways: [] };
let onSignedOut = () => {};

export function whenSignedOut(callback) {
  onSignedOut = callback;
}

export async function session() {
  signedInAs = await request("GET", "/api/session");
  return signedInAs;
}

// Identity of this browser, as the daemon reported it last.
export const me = () => signedInAs;

export const get = (path, timeout_ms) => request("GET", path, undefined, timeout_ms);
export const post = (path, body) => request("POST", path, body, 120_000);
export const upload = (path, file) => request("POST", path, file, 120_000);
export const put = (path, body) => request("PUT", path, body);

export const fetchFile = (path) => answered("GET", path, undefined, 86_400_000); // a day, as a file may be large
const request = async (...asked) => (await answered(...asked)).json();

async function answered(method, path, body, timeout_ms = TIMEOUT_MS) {
  const headers = new Headers();
  if (chosenLanguage()) headers.set("Accept-Language", chosenLanguage()); // the browser's own otherwise
  const isFile = body instanceof Blob;
  if (body !== undefined) headers.set("Content-Type", isFile ? body.type || "application/octet-stream" : "application/json");
  if (signedInAs.csrf && method !== "GET") headers.set("X-CSRF-Token", signedInAs.csrf);
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: isFile ? body : body && JSON.stringify(body), signal: AbortSignal.timeout(timeout_ms) });
  } catch {
    throw new Problem(0, t("No connection to the device"));
  }
  if (!answer.ok) throw await refused(answer, path);
  return answer;
}

async function refused(answer, path) {
  if (answer.status === 401 && path !== "/api/login") onSignedOut();
  const body = await answer.json().catch(() => ({}));
  return new Problem(answer.status, body.detail || t("The device answered {status}", { status: answer.status }));
}

// The newest image; null if it is still the one named by `known`, or if there is none yet.
export async function fetchImage(path, known) {
  const headers = known ? { "If-None-Match": `"${known}"` } : {};
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (answer.status === 304 || answer.status === 204) return null;
  if (!answer.ok) throw await refused(answer, path);
  return { id: answer.headers.get("X-Frame-Id"), blob: await answer.blob() };
}
