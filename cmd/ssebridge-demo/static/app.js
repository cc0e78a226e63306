// The page: what is typed and pressed, and the rows of the log. Text from events
// only ever enters it as textContent.
//
// For programs that read the page: body has data-state and data-verdict; each
// row has data-name, data-id, data-subject and data-seq, the record's running
// number on its subject.

import { Continuity } from "./continuity.js";
import { Follower } from "./follow.js";

const MAX_ROWS = 2000; // the newest are kept
const FLUSH_INTERVAL = 50; // ms; many events in one go cost one layout
const RATE_WINDOW = 5; // s

const $ = (id) => document.getElementById(id);
const log = $("log");

const continuity = new Continuity();
let total = 0;
let arrivals = [];
let queued = [];
let flushTimer = 0;
let autoscroll = true;

const follower = new Follower(document.documentElement.dataset.events, { onEvent, onState });

// --- events ------------------------------------------------------------------

function onEvent({ name, id, data }) {
  const event = name === "message" ? fromEnvelope(data) : { payload: parse(data) };
  Object.assign(event, { name, id });
  if (name === "message") {
    total++;
    arrivals.push(performance.now());
    if (event.seq !== undefined) continuity.see(event.subject, event.seq);
  }
  if (name === "gap" || name === "reset") continuity.forget();
  if (name === "connected") {
    document.body.dataset.verdict = event.payload?.resume ?? "";
    $("verdict").textContent = document.body.dataset.verdict;
  }
  queued.push(event);
  if (queued.length > MAX_ROWS) queued.shift(); // a hidden tab: timers are rare there
  if (!flushTimer) flushTimer = setTimeout(flush, FLUSH_INTERVAL);
}

// fromEnvelope reads {"subject", "time", "data", …}.
function fromEnvelope(text) {
  const envelope = parse(text);
  if (envelope === null || typeof envelope !== "object") return { payload: envelope };
  let payload = envelope.data;
  if (typeof payload === "string") payload = parse(payload);
  const seq = Number.isInteger(payload?.n) ? payload.n : undefined;
  return { subject: envelope.subject ?? "", time: envelope.time, payload, seq };
}

function parse(text) {
  try {
    return JSON.parse(text, asWritten);
  } catch {
    return text;
  }
}

// asWritten keeps a number that JavaScript would write otherwise (7.50, or one
// beyond 2^53) as its text, where the browser can.
function asWritten(name, value, context) {
  if (typeof value !== "number" || context?.source === undefined || String(value) === context.source) return value;
  return JSON.rawJSON?.(context.source) ?? value;
}

// --- rows --------------------------------------------------------------------

function flush() {
  flushTimer = 0;
  const rows = document.createDocumentFragment();
  for (const event of queued) rows.append(makeRow(event));
  queued = [];
  log.append(rows);
  for (let extra = log.children.length - MAX_ROWS; extra > 0; extra--) log.firstElementChild.remove();
  $("empty").hidden = true;
  if (autoscroll) log.scrollTop = log.scrollHeight;
  showNumbers();
}

function makeRow(event) {
  const row = document.createElement("li");
  row.dataset.name = event.name;
  row.dataset.id = event.id;
  row.dataset.subject = event.subject ?? "";
  if (event.seq !== undefined) row.dataset.seq = event.seq;

  const details = document.createElement("details");
  const line = document.createElement("summary");
  line.tabIndex = -1; // arrow keys move between rows; two thousand stops of Tab would not do
  const at = event.time === undefined ? new Date() : new Date(event.time);
  line.append(
    cell("time", clock(at)),
    cell("subject", event.subject ?? ""),
    cell("name", event.name),
    compact(event.payload),
    cell("id", shortID(event.id)),
  );
  details.append(line);
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    if (details.childElementCount === 1) details.append(makeDetails(event, at));
    row.scrollIntoView({ block: "nearest" });
  });
  row.append(details);
  return row;
}

function cell(kind, text) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  return element;
}

// compact shows a payload on one line, its member names dimmer than the values.
function compact(payload) {
  const line = cell("payload", "");
  if (payload === null || typeof payload !== "object" || Array.isArray(payload)) {
    line.textContent = typeof payload === "string" ? payload : JSON.stringify(payload);
    return line;
  }
  for (const [name, value] of Object.entries(payload)) {
    if (line.childElementCount > 0) line.append("  ");
    const member = document.createElement("span");
    const label = document.createElement("i");
    label.textContent = name;
    member.append(label, " ", typeof value === "string" ? value : JSON.stringify(value));
    line.append(member);
  }
  if (line.childElementCount === 0) line.textContent = "{}";
  return line;
}

function makeDetails(event, at) {
  const list = document.createElement("dl");
  const add = (term, text) => {
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = term;
    value.textContent = text;
    list.append(name, value);
  };
  add("id", event.id || "none");
  add(event.time === undefined ? "arrived" : "time", event.time ?? at.toISOString());
  add("data", typeof event.payload === "string" ? event.payload : JSON.stringify(event.payload, null, 2));
  return list;
}

function clock(date) {
  if (Number.isNaN(date.getTime())) return "";
  const two = (n) => String(n).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

// shortID keeps both ends of a long id: the streams it names begin it, and what
// changes from event to event ends it.
function shortID(id) {
  return id.length <= 26 ? id : `${id.slice(0, 9)}…${id.slice(-16)}`;
}

// --- connection and numbers --------------------------------------------------

function onState(state, reason) {
  document.body.dataset.state = state;
  $("state").textContent = state;
  if (state !== "live") {
    document.body.dataset.verdict = "";
    $("verdict").textContent = "";
  }
  $("pause").textContent = state === "paused" ? "Resume" : state === "ended" ? "Reconnect" : "Pause";
  showProblem(reason);
}

function showProblem(text) {
  $("problem").textContent = text;
  $("problem").hidden = text === "";
}

function showNumbers() {
  const since = performance.now() - RATE_WINDOW * 1000;
  arrivals = arrivals.filter((at) => at >= since);
  $("total").textContent = total.toLocaleString("en");
  $("rate").textContent = (arrivals.length / RATE_WINDOW).toFixed(1);
  for (const name of ["lost", "doubled"]) {
    $(name).textContent = continuity[name].toLocaleString("en");
    $(name).classList.toggle("bad", continuity[name] > 0);
  }
  $("cursor").textContent = follower.lastID || "none yet";
}
setInterval(showNumbers, 1000);

// --- what is typed and pressed -----------------------------------------------

function patternsIn(text) {
  return text.split(/[\s,]+/).filter((pattern) => pattern !== "");
}

// faultOf says what is wrong with a pattern, "" if nothing.
function faultOf(pattern) {
  const tokens = pattern.split(".");
  if (tokens.includes("")) return `${pattern}: a token between dots is empty`;
  if (tokens.slice(0, -1).includes(">")) return `${pattern}: > stands for the rest, so it comes last`;
  const mixed = tokens.find((token) => token.length > 1 && /[*>]/.test(token));
  return mixed === undefined ? "" : `${pattern}: * and > stand for whole tokens, not for a part of ${mixed}`;
}

function follow(patterns) {
  const faults = patterns.map(faultOf).filter((fault) => fault !== "");
  $("subjects").setAttribute("aria-invalid", String(faults.length > 0));
  if (faults.length > 0) {
    showProblem(faults.join("; "));
    return;
  }
  for (const chip of $("presets").children) {
    chip.setAttribute("aria-pressed", String(patterns.includes(chip.dataset.pattern)));
  }
  const query = new URLSearchParams(patterns.map((pattern) => ["subject", pattern]));
  history.replaceState(null, "", patterns.length > 0 ? `?${query}` : location.pathname);
  continuity.forget();
  follower.open(patterns);
}

function followBox() {
  const patterns = patternsIn($("subjects").value);
  const corrected = $("subjects").getAttribute("aria-invalid") === "true";
  if (corrected || String(patterns) !== String(follower.patterns)) follow(patterns);
}

$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  followBox();
});
$("subjects").addEventListener("change", followBox); // comes before submit when Enter is pressed

$("presets").addEventListener("click", (event) => {
  const pattern = event.target.dataset.pattern;
  if (pattern === undefined) return;
  let patterns = patternsIn($("subjects").value);
  if (patterns.includes(pattern)) {
    patterns = patterns.filter((other) => other !== pattern);
  } else if (pattern === ">" || patterns.includes(">")) {
    patterns = [pattern]; // > covers all others
  } else {
    patterns.push(pattern);
  }
  $("subjects").value = patterns.join(" ");
  follow(patterns);
});

$("pause").addEventListener("click", () => {
  if (document.body.dataset.state === "paused" || document.body.dataset.state === "ended") follower.resume();
  else follower.pause();
});

$("clear").addEventListener("click", () => {
  log.replaceChildren();
  $("empty").hidden = false;
});

function setAutoscroll(on) {
  autoscroll = on;
  $("autoscroll").setAttribute("aria-pressed", String(on));
  if (on) log.scrollTop = log.scrollHeight;
}
$("autoscroll").addEventListener("click", () => setAutoscroll(!autoscroll));

let scrolledTo = 0;
log.addEventListener("scroll", () => {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  if (!atEnd && log.scrollTop < scrolledTo && autoscroll) setAutoscroll(false); // somebody reads further up
  if (atEnd && log.scrollTop > scrolledTo && !autoscroll) setAutoscroll(true);
  scrolledTo = log.scrollTop;
});
log.addEventListener("click", (event) => {
  if (event.target.closest("summary") && autoscroll) setAutoscroll(false); // or the opened row would run away
});
log.addEventListener("keydown", (event) => {
  const lines = [...log.querySelectorAll("summary")];
  const at = lines.indexOf(document.activeElement);
  const to = {
    ArrowDown: at + 1,
    ArrowUp: at < 0 ? lines.length - 1 : at - 1,
    Home: 0,
    End: lines.length - 1,
  }[event.key];
  if (to === undefined || lines[to] === undefined) return;
  event.preventDefault();
  if (autoscroll) setAutoscroll(false);
  lines[to].focus();
});

const asked = new URLSearchParams(location.search).getAll("subject");
$("subjects").value = (asked.length > 0 ? asked : [">"]).join(" ");
follow(patternsIn($("subjects").value));
