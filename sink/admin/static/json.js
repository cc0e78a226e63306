// JSON as elements, read from its text and never from parsed values: numbers
// beyond 2^53, 7.50, names that stand there twice and escapes are all shown as
// they were written.

import { element } from "./words.js";

const TOKEN = /\s*([-0-9][0-9.eE+-]*|true|false|null|[{}[\],:"])/y; // of a string only its beginning
const MAX_CHARACTERS = 200_000; // more would take the page's time for what nobody reads

export function isJSON(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function* tokens(text) {
  TOKEN.lastIndex = 0;
  for (let match; (match = TOKEN.exec(text)) !== null; ) {
    const at = TOKEN.lastIndex - match[1].length;
    const end = match[1] === '"' ? endOfString(text, at) : TOKEN.lastIndex;
    yield { token: text.slice(at, end), at, end };
    TOKEN.lastIndex = end; // somebody else may have used it meanwhile
  }
}

// endOfString returns where a string that begins at at has ended. A pattern would
// do for short ones: of those with millions of escapes it runs out of stack.
function endOfString(text, at) {
  for (let quote = at; ; ) {
    quote = text.indexOf('"', quote + 1);
    if (quote < 0) return text.length; // it is no JSON, so nobody asks
    let escapes = 0;
    while (text[quote - 1 - escapes] === "\\") escapes++;
    if (escapes % 2 === 0) return quote + 1;
  }
}

// members returns the text of each member of a JSON object, by name; the last
// one of a name counts. null if the text is not an object.
export function members(text) {
  if (!/^\s*\{/.test(text) || !isJSON(text)) return null;
  const found = new Map();
  let depth = 0;
  let name = null;
  let from = -1;
  for (const { token, at, end } of tokens(text)) {
    if (depth === 1 && from < 0 && name === null && token[0] === '"') name = JSON.parse(token);
    else if (depth === 1 && token === ":") from = end;
    else if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    if ((depth === 1 && token === ",") || depth === 0) {
      if (name !== null) found.set(name, text.slice(from, at).trim());
      name = null;
      from = -1;
    }
  }
  return found;
}

// prettyJSON returns a pre of JSON text with each member on a line of its own; or
// the text as it is, where it is not JSON.
export function prettyJSON(text) {
  const whole = text.length <= MAX_CHARACTERS;
  if (!whole || !isJSON(text)) {
    return element("pre", "json", whole ? text : `${text.slice(0, MAX_CHARACTERS)}\n… ${(text.length - MAX_CHARACTERS).toLocaleString("en")} characters more: copy the data to see them`);
  }
  const pre = element("pre", "json");
  let depth = 0;
  let before = "";
  let plain = ""; // punctuation and blanks, gathered so that there are fewer nodes
  const list = [...tokens(text)];
  const line = () => (plain += `\n${"  ".repeat(depth)}`);
  list.forEach(({ token }, i) => {
    const opens = before === "{" || before === "[";
    if (token === "}" || token === "]") {
      depth--;
      if (!opens) line();
      plain += token;
    } else {
      if (opens || before === ",") line();
      if (token === "{" || token === "[") depth++;
      if (/^[{[\],]$/.test(token)) plain += token;
      else if (token === ":") plain += ": ";
      else {
        pre.append(plain);
        plain = "";
        pre.append(element("span", kindOf(token, list[i + 1]?.token), token));
      }
    }
    before = token;
  });
  pre.append(plain);
  return pre;
}

function kindOf(token, next) {
  if (token[0] === '"') return next === ":" ? "key" : "string";
  return /^[-0-9]/.test(token) ? "number" : "literal";
}
