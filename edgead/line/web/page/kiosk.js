// The live view alone in full screen, which stays awake, for a panel at the line. `#kiosk` begins it, `#live` ends it.

import { by } from "./dom.js";

const on = () => "kiosk" in document.body.dataset;
let lock = null;

export const inKiosk = on;

export function enterKiosk() {
  if (on()) return;
  document.body.dataset.kiosk = "";
  // Full screen needs a touch before; a browser that starts in the kiosk was started in full screen.
  if (navigator.userActivation?.isActive) document.documentElement.requestFullscreen?.().catch(() => {});
  stayAwake();
}

export function leaveKiosk() {
  if (!on()) return;
  delete document.body.dataset.kiosk;
  if (document.fullscreenElement) document.exitFullscreen();
  lock?.release();
  lock = null;
}

// Browsers offer the lock on localhost and over TLS only, and drop it when the page is hidden.
async function stayAwake() {
  if (!on() || document.hidden) return;
  lock = await navigator.wakeLock?.request("screen").catch(() => null);
}

export function offerKiosk() {
  by("leave-kiosk").addEventListener("click", () => (location.hash = "live"));
  document.addEventListener("visibilitychange", stayAwake);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && on() && !by("live").hidden && !document.querySelector("dialog[open]")) location.hash = "live";
  });
}
