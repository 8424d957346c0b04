// What somebody types as JSON. Browsers say each in its own words what is wrong with it, and none what to do; here it is
// read once more, only to find the first place that is wrong.

const BLANK = " \t\n\r";
const AFTER = /[,\]}\s]/;

class Wrong extends Error {
  constructor(at, what) {
    super(what);
    this.at = at;
  }
}

/** Reads a value from `at` on, and returns where it ends. */
function value(text, at) {
  const here = text[at];
  if (here === undefined) throw new Wrong(at, "a value is missing at the end");
  if (here === "{") return object(text, at);
  if (here === "[") return array(text, at);
  if (here === '"') return string(text, at);
  if ("'\u2018\u2019\u201c\u201d\u201e`".includes(here)) throw new Wrong(at, `a text stands between two " and not between ${here}`);
  let end = at;
  while (end < text.length && !AFTER.test(text[end]) && text[end] !== ":") end++;
  const word = text.slice(at, end);
  if (!word) throw new Wrong(at, `a value is missing before ${here}`);
  if (["true", "false", "null"].includes(word)) return end;
  if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(word)) return end;
  const meant = { True: "true", False: "false", None: "null", undefined: "null", nil: "null" }[word];
  if (meant) throw new Wrong(at, `write ${meant} instead of ${word}`);
  if (/^[-+.\d]/.test(word)) throw new Wrong(at, `${word} is no number; write it such as 12 or 0.5, or as a text: "${word}"`);
  throw new Wrong(at, `put ${word} between quotes if it is a text: "${word}"`);
}

function blank(text, at) {
  while (at < text.length && BLANK.includes(text[at])) at++;
  if (text.startsWith("//", at) || text.startsWith("/*", at)) throw new Wrong(at, "there are no comments in JSON: take it away");
  return at;
}

function string(text, at) {
  for (let place = at + 1; place < text.length; place++) {
    if (text[place] === '"') return place + 1;
    if (text[place] === "\n") throw new Wrong(at, 'this text does not end on its line: close it with ", and write line breaks as \\n');
    if (text[place] < " ") throw new Wrong(place, "a control character cannot stand in a text; a tab is written as \\t");
    if (text[place] !== "\\") continue;
    const escape = /^(["\\/bfnrt]|u[0-9a-fA-F]{4})/.exec(text.slice(place + 1, place + 6));
    if (!escape) throw new Wrong(place, "\\ stands before one of \" \\ / b f n r t u; to write it itself, write it twice");
    place += escape[0].length;
  }
  throw new Wrong(at, 'this text does not end: close it with "');
}

/** What stands between two brackets with commas between, each read by `one`. */
function items(text, at, [open, close], one) {
  let place = blank(text, at + 1);
  if (text[place] === close) return place + 1;
  for (;;) {
    place = blank(text, one(text, place));
    if (text[place] === close) return place + 1;
    if (text[place] === undefined) throw new Wrong(at, `this ${open} is not closed: write ${close} where it ends`);
    if (text[place] !== ",") throw new Wrong(place, `a comma, or ${close}, is missing before ${text[place]}`);
    const comma = place;
    place = blank(text, place + 1);
    if (text[place] === close) throw new Wrong(comma, `take away the comma before ${close}`);
  }
}

const array = (text, at) => items(text, at, "[]", value);

const object = (text, at) => items(text, at, "{}", (_, begin) => {
  const here = text[begin];
  if (here === undefined) throw new Wrong(at, "this { is not closed: write } where it ends");
  if (here !== '"') throw new Wrong(begin, 'a name is missing here; names stand between two ", as in {"name": "value"}');
  const colon = blank(text, string(text, begin));
  if (text[colon] !== ":") throw new Wrong(colon, `a colon is missing after the name ${text.slice(begin, colon).trim()}`);
  return value(text, blank(text, colon + 1));
});

/** What is wrong first: where, in lines and columns from 1, and what to do; nothing if all is well. */
export function fault(text) {
  try {
    const end = blank(text, value(text, blank(text, 0)));
    if (end < text.length) throw new Wrong(end, "nothing may follow here: take it away, or put all into one { }");
    return null;
  } catch (wrong) {
    if (!(wrong instanceof Wrong)) throw wrong;
    const before = text.slice(0, wrong.at).split("\n");
    return { at: wrong.at, line: before.length, column: before[before.length - 1].length + 1, what: wrong.message };
  }
}

/** The object that is written in a field; what is wrong with it is said in words, and the field is marked. */
export function objectIn(field) {
  const name = field.labels?.[0]?.textContent.trim() ?? field.name;
  field.removeAttribute("aria-invalid");
  let wrong = null;
  try {
    const is = JSON.parse(field.value);
    if (typeof is === "object" && is !== null && !Array.isArray(is)) return is;
  } catch {
    wrong = fault(field.value);
  }
  field.setAttribute("aria-invalid", "true");
  const said = wrong ? `cannot be read, line ${wrong.line}, column ${wrong.column}: ${wrong.what}.` : 'has to be an object: write {"name": value}, or leave it empty.';
  throw Object.assign(new Error(`\u201c${name}\u201d ${said}`), { field, at: wrong?.at ?? 0 });
}
