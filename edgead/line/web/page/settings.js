// This browser's settings of the page: language, light or dark, full screen.

import { by, el } from "./dom.js";
import { chooseLanguage, chosenLanguage, languages, t } from "./words.js";

const THEME = "edgead-theme";
const nameOf = (language) => new Intl.DisplayNames([language], { type: "language" }).of(language);

function choice(id, options, chosen, choose) {
  const select = el("select", { id, onchange: () => choose(select.value) }, options.map(([value, text, lang]) => el("option", { value, lang }, text)));
  select.value = chosen;
  return select;
}

function chooseTheme(theme) {
  if (theme) localStorage.setItem(THEME, theme);
  else localStorage.removeItem(THEME);
  dispatchEvent(new Event("storage")); // theme.js looks again, as it does for other windows
}

export function openSettings() {
  const themes = [["", t("as the system")], ["light", t("light colours")], ["dark", t("dark colours")]];
  const known = [["", t("as the browser")], ...languages.map((one) => [one, nameOf(one), one])];
  const kiosk = el("button", { type: "button", onclick: () => (box.close(), (location.hash = "kiosk")) }, t("Kiosk mode"));
  const form = el(
    "form", { method: "dialog" },
    el("label", { for: "language" }, t("Language")), choice("language", known, chosenLanguage(), chooseLanguage),
    el("label", { for: "theme" }, t("Colours")), choice("theme", themes, localStorage.getItem(THEME) ?? "", chooseTheme),
    el("div", { class: "actions" }, kiosk, el("button", { class: "primary" }, t("Close"))),
  );
  const box = el("dialog", { "aria-labelledby": "settings-title", onclose: () => box.remove() }, el("h2", { id: "settings-title" }, t("Display")), form);
  document.body.append(box);
  box.showModal();
}

export const offerSettings = () => by("open-settings").addEventListener("click", openSettings);
