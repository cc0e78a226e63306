// What is followed, as the page's own address says it, as a request, and as code
// to take along. A query is
//
//   {streams, subjects, start, format, url, search, from}
//
// url, a path with a query on this origin, stands instead of the four before it;
// from is the event id to go on behind, "" for none.

export const FORMATS = ["envelope", "data", "base64", ""];

// readQuery reads the page's address. What it cannot use it leaves out.
export function readQuery(search) {
  const given = new URLSearchParams(search);
  const format = given.get("format");
  return {
    streams: given.getAll("stream"),
    subjects: given.getAll("subject"),
    start: given.get("start") || "new",
    format: FORMATS.includes(format) ? format : "envelope",
    url: given.get("url") ?? "",
    search: given.get("q") ?? "",
    from: given.get("lastEventId") ?? "",
  };
}

// pageSearch is readQuery's counterpart: an address to share, which never has a
// secret in it.
export function pageSearch(query) {
  const search = new URLSearchParams();
  if (query.url !== "") {
    search.set("url", withoutSecrets(query.url));
  } else {
    for (const stream of query.streams) search.append("stream", stream);
    for (const subject of query.subjects) search.append("subject", subject);
    if (query.start !== "new") search.set("start", query.start);
    if (query.format !== "envelope") search.set("format", query.format);
  }
  if (query.from !== "") search.set("lastEventId", query.from);
  if (query.search !== "") search.set("q", query.search);
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

// eventsURL is the address to read, without an id. It throws if a url is none of
// this origin, the only one that the page may ask.
export function eventsURL(query, events) {
  if (query.url !== "") {
    const url = new URL(query.url, location.origin);
    if (url.origin !== location.origin) throw new Error(`only addresses that begin with ${location.origin} can be opened from here`);
    return url;
  }
  const url = new URL(events, location.origin);
  for (const stream of query.streams) url.searchParams.append("stream", stream);
  for (const subject of query.subjects) url.searchParams.append("subject", subject);
  if (query.start !== "new") url.searchParams.set("start", query.start);
  if (query.format !== "") url.searchParams.set("format", query.format);
  return url;
}

// readable is the path and query of an address without percent signs; with them,
// where one stands for nothing.
export function readable(url) {
  const text = url.pathname + url.search;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// SECRET is what parameters are called that carry a secret.
const SECRET = /token|ticket|secret|passw|passwd|pwd|jwt|auth|api-?_?key|signature|^sig$|^key$|session|credential|code$/i;

// withoutSecrets takes values that may be secrets out of an address.
export function withoutSecrets(text) {
  let url;
  try {
    url = new URL(text, location.origin);
  } catch {
    return text.replace(/\?.*/s, "");
  }
  for (const name of new Set(url.searchParams.keys())) {
    if (SECRET.test(name)) url.searchParams.set(name, "REDACTED");
  }
  url.username = url.password = url.hash = "";
  return text.startsWith("/") ? url.pathname + url.search : url.href;
}

// asCurl is a command that reads the same, behind the event with that id. With
// token it sends the one of the admin listener, which the shell has to know. -g: curl
// would make several addresses of one with braces or brackets.
export function asCurl(url, id, token = false) {
  const login = token ? ' -H "Authorization: Bearer $SSEBRIDGE_ADMIN_TOKEN"' : "";
  const header = id === "" ? "" : ` -H ${quoted(`Last-Event-ID: ${id}`)}`;
  return `curl -gN${login}${header} ${quoted(withoutSecrets(url.href))}`;
}

// quoted is text as one word of a POSIX shell.
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// asEventSource is code that reads the same in a page. names are the names of the
// events, which EventSource has to be told.
export function asEventSource(url, id, names) {
  const clean = new URL(withoutSecrets(url.href));
  if (id !== "") clean.searchParams.set("lastEventId", id);
  const listed = ["message", ...names.filter((name) => name !== "message").sort()];
  return [
    `const source = new EventSource(${JSON.stringify(clean.href)});`,
    `for (const name of ${JSON.stringify(listed)}) {`,
    "  source.addEventListener(name, (event) => {",
    "    console.log(event.type, event.lastEventId, event.data);",
    "  });",
    "}",
    'source.addEventListener("error", () => console.log("reconnecting, or ended:", source.readyState));',
  ].join("\n");
}

// patternsIn splits what was typed.
export function patternsIn(text) {
  return text.split(/[\s,]+/).filter((pattern) => pattern !== "");
}

// searchFor makes a filter for rows of what was typed: every word has to be
// there, in any case, and no word with a - before it. words is a pattern of what
// to mark, null for nothing.
export function searchFor(text) {
  const words = text.split(/\s+/).filter((word) => word !== "" && word !== "-");
  if (words.length === 0) return { filter: null, words: null };
  const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const wanted = words.filter((word) => word[0] !== "-");
  const tests = wanted.map((word) => new RegExp(escaped(word), "i"));
  const without = words.filter((word) => word[0] === "-").map((word) => new RegExp(escaped(word.slice(1)), "i"));
  const holds = (row, test) => test.test(row.data) || test.test(row.subject) || test.test(row.name) || test.test(row.stream) || test.test(row.id) || (row.control && test.test(row.preview ?? ""));
  return {
    filter: (row) => tests.every((test) => holds(row, test)) && !without.some((test) => holds(row, test)),
    words: wanted.length === 0 ? null : new RegExp(wanted.map(escaped).join("|"), "gi"),
  };
}
