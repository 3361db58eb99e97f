// The page in the language of who looks. The English text is the key of a table of words; what a table lacks stays English.

let words = {};

export const useWords = (table) => (words = table);

export const t = (text, values = {}) => (words[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
