// How this browser shows the page: its language.

import { by, el } from "./dom.js";
import { chooseLanguage, chosenLanguage, languages, t } from "./words.js";

const nameOf = (language) => new Intl.DisplayNames([language], { type: "language" }).of(language);

export function offerSettings() {
  by("open-settings").addEventListener("click", open);
}

function open() {
  const language = el("select", { id: "language", onchange: () => chooseLanguage(language.value) }, el("option", { value: "" }, t("as the browser")), languages.map((one) => el("option", { value: one, lang: one }, nameOf(one))));
  language.value = chosenLanguage();
  const close = el("div", { class: "actions" }, el("button", { class: "primary" }, t("Close")));
  const form = el("form", { method: "dialog" }, el("label", { for: "language" }, t("Language")), language, close);
  const box = el("dialog", { "aria-labelledby": "settings-title", onclose: () => box.remove() }, el("h2", { id: "settings-title" }, t("Display")), form);
  document.body.append(box);
  box.showModal();
}
