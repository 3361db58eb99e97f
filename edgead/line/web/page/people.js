// The person who is signed in, with the role, and the ways to sign in: the form, the name in the bar, the PIN of a panel.

import { me, post, session } from "./api.js";
import { ask, field } from "./dialogs.js";
import { by, el, say, toast } from "./dom.js";
import { t } from "./words.js";

const AFTER_END_MS = 500;

let onSignedIn = () => {};
let ending;

// `signedIn` is called when a browser has signed in, or as another person.
export function watchPeople(signedIn) {
  onSignedIn = signedIn;
  by("unlock").addEventListener("click", () => (me().way === "pin" ? lock() : unlock()));
}

// What the bar says of who is signed in. Buttons name the role that they need, `data-needs`, as the daemon's table has it,
// which refuses whatever this page shows; those that the role may not use are absent: people.css takes them out.
export function showPerson() {
  const { role, way, name, panel, signed_in, can_unlock, raised_s } = me();
  const roles = { view: t("may look"), operate: t("may operate"), engineer: t("engineer") };
  document.body.dataset.role = role ?? "view";
  const shown = name || panel;
  by("who").hidden = !signed_in || way === "open" || !shown;
  say(by("who"), shown ? `${shown} · ${roles[role]}` : "");
  by("sign-out").hidden = !signed_in || way === "open" || way === "proxy" || way === "panel" || (way === "pin" && role !== "engineer");
  by("unlock").hidden = !can_unlock;
  say(by("unlock"), way === "pin" ? t("Lock") : t("Unlock"));
  clearTimeout(ending);
  if (raised_s != null) ending = setTimeout(again, 1000 * raised_s + AFTER_END_MS);
}

async function again() {
  await session().catch(() => {});
  showPerson();
  onSignedIn();
}

function unlock() {
  ask({
    title: t("Unlock this panel"), action: t("Unlock"),
    lead: t("Your name stands in the list of changes until it locks again."),
    fields: [
      field("person", t("Name"), { required: true, maxlength: "64" }),
      field("pin", t("PIN"), { type: "password", inputmode: "numeric", pattern: "[0-9]{4,8}", required: true, maxlength: "8" }),
    ],
    send: async (values) => {
      await post("/api/unlock", { name: values.person, pin: values.pin });
      await again();
    },
  });
}

async function lock() {
  await post("/api/lock").catch((problem) => toast(problem.message, true));
  await again();
}

// The form for the ways that this device offers. If there are several, names come first.
export function showSignIn(way) {
  const { ways, problem } = me();
  const chosen = way ?? ["password", "token", "proxy"].find((each) => ways.includes(each));
  const other = { password: "token", token: "password" }[chosen];
  const title = el("h1", {}, t("Sign in"));
  if (chosen === "proxy") {
    by("sign-in").replaceChildren(title, el("p", {}, problem ?? t("This device is reached by its proxy, which signs people in.")));
    return;
  }
  const change = { password: t("Use a token"), token: t("Use name and password") }[chosen];
  by("sign-in").replaceChildren(
    title,
    problem ? el("p", { class: "form-error" }, problem) : el("p", {}, chosen === "password" ? t("This device shows its line to those who are known to it.") : t("This device shows its line to those who have its token.")),
    form(chosen),
    ways.includes(other) ? el("button", { class: "quiet", onclick: () => showSignIn(other) }, change) : "",
  );
  by("sign-in").querySelector("input:not([hidden])").focus();
}

function form(way) {
  const error = el("p", { class: "form-error", role: "alert", hidden: true });
  const made = el("form", {}, way === "password" ? personFields() : tokenFields(), error, el("button", { class: "primary" }, t("Sign in")));
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.hidden = true;
    const { token, name, password } = Object.fromEntries(new FormData(made));
    try {
      await post("/api/login", way === "password" ? { name, password } : { token });
      made.reset();
      onSignedIn();
    } catch (problem) {
      error.textContent = problem.message;
      error.hidden = false;
      made.querySelector("input[type=password]").select();
    }
  });
  return made;
}

function tokenFields() {
  return [
    el("input", { name: "username", autocomplete: "username", value: "edgead", hidden: true }),
    field("token", t("Token"), { type: "password", autocomplete: "current-password", required: true, maxlength: "1024" }),
  ];
}

function personFields() {
  return [
    field("name", t("Name"), { autocomplete: "username", required: true, maxlength: "64" }),
    field("password", t("Password"), { type: "password", autocomplete: "current-password", required: true, maxlength: "256" }),
  ];
}
