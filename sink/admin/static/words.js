// How times, sizes and the like are written on the page. Everything has a
// bounded width, so that columns do not move.

export function clock(ms) {
  const date = new Date(ms);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

// span writes a time in ms in at most seven characters.
export function span(ms) {
  const size = Math.abs(ms);
  if (size < 1000) return `${Math.round(ms)} ms`;
  if (size < 100_000) return `${(ms / 1000).toFixed(size < 10_000 ? 2 : 1)} s`;
  if (size < 6_000_000) return `${Math.round(ms / 60_000)} min`;
  if (size < 360_000_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(bytes < 10_000 ? 1 : 0)} kB`;
  if (bytes < 1_000_000_000) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

// element makes one with text in it. Text from events enters the page in no
// other way.
export function element(kind, className, ...content) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  made.append(...content.map((part) => (typeof part === "number" ? String(part) : part)));
  return made;
}

// marked is text with the words of a search set off in it.
export function marked(text, pattern) {
  if (pattern === null) return [text];
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    if (match[0] === "") continue;
    if (match.index > at) parts.push(text.slice(at, match.index));
    parts.push(element("mark", "", match[0]));
    at = match.index + match[0].length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}
