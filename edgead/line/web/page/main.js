// The page: signing in, the views, the state of the connection.

import { NoticesView } from "./alarms.js";
import { Problem, get, post, session, whenSignedOut } from "./api.js";
import { showChanges } from "./changes.js";
import { CommissionView } from "./commission.js";
import { endName, whenChanged } from "./dialogs.js";
import { by, clock, complain, say } from "./dom.js";
import { EvidenceView, linkTo } from "./evidence.js";
import { enterKiosk, leaveKiosk, offerKiosk } from "./kiosk.js";
import { KindsView } from "./kinds.js";
import { LiveView } from "./live.js";
import { showPerson, showSignIn, watchPeople } from "./people.js";
import { ProductionBox } from "./production.js";
import { ReportView } from "./report.js";
import { markRecent } from "./marking.js";
import { offerSettings } from "./settings.js";
import { SystemView } from "./system.js";
import { TeachView } from "./teach.js";
import { t, translatePage } from "./words.js";

const STATUS_EVERY_MS = 1000;
const VIEWS = ["live", "evidence", "kinds", "report", "teach", "commission", "system", "changes"];

translatePage();
offerSettings();
offerKiosk();
const live = new LiveView((verdict) => (location.hash = linkTo(verdict)));
const evidence = new EvidenceView();
const kinds = new KindsView();
const report = new ReportView();
const teach = new TeachView();
const commission = new CommissionView();
const system = new SystemView();
const notices = new NoticesView();
let production = null;
let signedIn = false;
let events = null;
let seenAt = null;

function route() {
  const [name, first, second] = location.hash.slice(1).split("/");
  const view = VIEWS.includes(name) ? name : "live";
  // From the kiosk a reject can be opened, which leads back; every other link leaves the kiosk.
  if (name === "kiosk") enterKiosk();
  else if (view !== "evidence") leaveKiosk();
  by("sign-in").hidden = signedIn;
  by("tabs").hidden = !signedIn;
  if (by(view).hidden) scrollTo(0, 0);
  for (const each of VIEWS) by(each).hidden = !signedIn || each !== view;
  for (const link of by("tabs").children) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page"), link.scrollIntoView({ block: "nearest", inline: "nearest" });
    else link.removeAttribute("aria-current");
  }
  if (!signedIn) return;
  if (view === "evidence") evidence.show(first, second);
  if (view === "kinds") kinds.show(first, second);
  if (view === "report") report.load();
  if (view === "teach") teach.show(first);
  if (view === "commission") commission.show(first);
  if (view === "changes") showChanges();
  refresh();
}

async function refresh() {
  if (!signedIn) return;
  try {
    const status = await get("/api/status");
    status.ahead_ms = Date.parse(status.now) - Date.now();
    connected(status.pipelines.filter(({ state }) => state === "paused").map(({ name }) => name).join(", "));
    endName(status.shift);
    for (const each of [live, evidence, kinds, report, teach, commission, system]) each.showStatus(status);
    notices.refresh();
    document.title = status.ready ? "edgead" : "(!) edgead";
  } catch (problem) {
    if (signedIn && problem.status === 0) disconnected();
    else if (signedIn && problem.status === undefined) throw problem;
  }
}

async function watch() {
  for (;;) {
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, STATUS_EVERY_MS));
  }
}

function connected(paused) {
  const wasLost = "lost" in document.body.dataset;
  seenAt = new Date();
  delete document.body.dataset.lost;
  by("lost").hidden = true;
  by("connection").dataset.state = paused ? "paused" : "up";
  say(by("connection"), paused ? t("Paused: {names}", { names: paused }) : t("Connected"));
  if (!events || events.readyState === EventSource.CLOSED) listen();
  if (wasLost) {
    live.connection(false);
    if (live.pipeline) live.choose(live.pipeline);
  }
}

function disconnected() {
  document.body.dataset.lost = "";
  by("lost").hidden = false;
  const shown = seenAt ? t("What you see is from {time} and not live.", { time: clock(seenAt) }) : "";
  say(by("lost"), [t("Connection lost."), shown, t("Trying again …")].join(" "));
  by("connection").dataset.state = "lost";
  say(by("connection"), t("Connection lost"));
  live.connection(true);
}

function listen() {
  events?.close();
  events = new EventSource("/api/events");
  events.addEventListener("verdict", (event) => [live, evidence].forEach((view) => view.hear(JSON.parse(event.data))));
  events.addEventListener("notice", () => notices.load());
  events.addEventListener("dropped", (event) => live.missed(JSON.parse(event.data).dropped));
}

function signedOut() {
  signedIn = false;
  notices.clear();
  events?.close();
  events = null;
  say(by("connection"), t("Signed out"));
  delete by("connection").dataset.state;
  for (const id of ["who", "unlock", "sign-out"]) by(id).hidden = true;
  route();
  showSignIn();
}

by("sign-out").addEventListener("click", async () => {
  await post("/api/logout").catch(() => {});
  begin();
});

async function begin() {
  try {
    const found = await session();
    if (!found.signed_in) return signedOut();
    signedIn = true;
    showPerson();
    production ??= new ProductionBox((found) => live.showShift(found));
    route();
  } catch {
    disconnected();
    setTimeout(begin, STATUS_EVERY_MS);
  }
}

whenSignedOut(() => signedIn && begin());
watchPeople(begin);
whenChanged(() => {
  refresh();
  notices.load();
  live.again();
  if (!by("evidence").hidden) evidence.again();
  if (!by("kinds").hidden) kinds.load();
  if (!by("teach").hidden) teach.load();
  if (!by("changes").hidden) showChanges();
});
by("mark-recent").addEventListener("click", () => markRecent(live.pipeline));
addEventListener("hashchange", route);
addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof Problem)) return; // a fault of the page stays in the console
  event.preventDefault();
  complain(event.reason);
});
begin().then(watch);
