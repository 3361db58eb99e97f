// The page in the language of who looks. English texts are the keys of a table, one file for each other language, which the daemon
// lists; what a table lacks stays English. Modules that import this one run when the table is there.

const CHOSEN = "edgead-language";
const ENGLISH = "en";
const TIMEOUT_MS = 3000;
const READ_OUT = ["aria-label", "alt", "placeholder", "title"];

export const chosenLanguage = () => localStorage.getItem(CHOSEN) ?? "";

export function chooseLanguage(language) {
  if (language) localStorage.setItem(CHOSEN, language);
  else localStorage.removeItem(CHOSEN);
  location.reload();
}

const plain = (tag) => tag.toLowerCase().split("-")[0];

async function read(path) {
  const answer = await fetch(`/page/words${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

async function load() {
  try {
    const known = [ENGLISH, ...(await read(""))];
    const language = [chosenLanguage(), ...navigator.languages].map(plain).find((one) => known.includes(one)) ?? ENGLISH;
    return { known, language, words: language === ENGLISH ? {} : await read(`/${language}.json`) };
  } catch {
    return { known: [ENGLISH], language: ENGLISH, words: {} };
  }
}

const { known, language, words } = await load();

export const languages = known;

// Locale of numbers and times: the browser's own region if it has the page's language.
export const locale = navigator.languages.find((tag) => plain(tag) === language) ?? language;

// The text, with each `{name}` replaced by its value.
export const t = (text, values = {}) => (words[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

// A closed list of the device's texts, each with its translation.
export const closed = (...texts) => Object.fromEntries(texts.map((text) => [text, t(text)]));

// Texts in the page before any script has run.
export function translatePage() {
  document.documentElement.lang = language;
  const texts = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.nodeValue = texts.currentNode.nodeValue.replace(/\S(?:.*\S)?/, (text) => t(text));
  for (const name of READ_OUT) {
    for (const element of document.querySelectorAll(`[${name}]`)) element.setAttribute(name, t(element.getAttribute(name)));
  }
}
