// Ticker shows the last events as rows, the newest first. Text from events only
// ever enters it as textContent.
//
// For programs that read the page: each row has data-name, data-id, data-subject
// and data-seq, the record's running number on its subject.

const KEPT = 150; // rows
const QUEUED = 2000; // events: a hidden tab shows rarely

export class Ticker {
  constructor(list) {
    this.list = list;
    this.queue = [];
  }

  add(event) {
    this.queue.push(event);
    if (this.queue.length > QUEUED) this.queue.shift();
  }

  // show makes rows of what was added; many events in one go cost one layout.
  show() {
    if (this.queue.length === 0) return;
    const rows = document.createDocumentFragment();
    for (const event of this.queue) rows.prepend(makeRow(event));
    this.queue = [];
    this.list.prepend(rows);
    while (this.list.children.length > KEPT) this.list.lastElementChild.remove();
  }
}

function makeRow(event) {
  const row = document.createElement("li");
  row.dataset.name = event.name;
  row.dataset.id = event.id;
  row.dataset.subject = event.subject ?? "";
  if (event.seq !== undefined) row.dataset.seq = event.seq;
  row.classList.toggle("replayed", event.replayed);
  if (event.replayed) row.title = "replayed from the broker after an interruption";
  row.append(
    cell("time", clock(event.time === undefined ? new Date() : new Date(event.time))),
    cell("subject", event.subject ?? event.name),
    cell("payload", compact(event.payload)),
    cell("id", shortID(event.id)),
  );
  return row;
}

function cell(kind, text) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  return element;
}

// compact shows a payload on one line.
function compact(payload) {
  if (typeof payload === "string") return payload;
  if (payload === null || typeof payload !== "object" || Array.isArray(payload)) return JSON.stringify(payload);
  const members = Object.entries(payload).map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`);
  return members.length > 0 ? members.join("  ") : "{}";
}

export function clock(date, digits = 3) {
  if (Number.isNaN(date.getTime())) return "";
  const two = (n) => String(n).padStart(2, "0");
  const whole = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return digits === 0 ? whole : `${whole}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

// shortID keeps both ends of a long id: the streams it names begin it, and what
// changes from event to event ends it.
function shortID(id) {
  return id.length <= 22 ? id : `${id.slice(0, 7)}…${id.slice(-12)}`;
}
