// The page: follows the streams, breaks things, and holds what arrives against
// what the publisher states.
//
//   EventSource ──► Follower ──► Continuity, Journal, Charts, Ticker ──► show
//   /truth, polled ─────────────►    │
//   buttons ──► POST /do/… ──────► Journal
//
// Text from events only ever enters the page as textContent. For programs that
// read it: body has data-state and data-verdict.

import { Charts } from "./charts.js";
import { Continuity } from "./continuity.js";
import { Follower } from "./follow.js";
import { Journal, outcome } from "./journal.js";
import { Ticker, clock } from "./ticker.js";

const SHOW_INTERVAL = 100; // ms
const DRAW_INTERVAL = 250;
const TRUTH_INTERVAL = 1000;
const TRUTH_HURRY = 250; // while something is going on
const STORM_INTERVAL = 2500;
const HISTORY = "1m"; // what the charts begin with

const $ = (id) => document.getElementById(id);

// This tab's own name: its connections are known by it, and can be cut.
const tab = crypto.randomUUID();

const continuity = new Continuity();
const journal = new Journal();
const charts = new Charts({ prices: $("prices"), host: $("host"), flow: $("flow-chart") });
const ticker = new Ticker($("ticker"));
const follower = new Follower(`/tabs/${tab}/events`, { start: HISTORY, onEvent, onState });

let level = false; // connected, and caught up
let met = false; // was level once
let truth = null;
let ran = { pid: 0, starts: 0 }; // the bridge's process of late
let reachable = true; // the demo itself

// --- events ------------------------------------------------------------------

function onEvent({ name, id, data }) {
  const now = performance.now();
  const event = name === "message" ? fromEnvelope(data) : { payload: parse(data) };
  Object.assign(event, { name, id, replayed: met && !level });
  switch (name) {
    case "message":
      if (event.seq !== undefined) {
        continuity.see(event.stream, event.subject, event.seq);
        journal.record(event.stream, now);
      }
      if (met) charts.arrive(Date.now());
      charts.record(event.subject, Date.parse(event.time), event.payload);
      break;
    case "connected":
      document.body.dataset.verdict = event.payload?.resume ?? "";
      journal.connected(document.body.dataset.verdict);
      break;
    case "caught-up":
      level = met = true;
      continuity.level(now);
      journal.level(now);
      break;
    case "gap":
    case "reset":
      continuity.told(name, event.payload);
      journal.told(name, event.payload, now, continuity.count(now));
      break;
  }
  ticker.add(event);
}

// fromEnvelope reads {"stream", "subject", "time", "data", …}.
function fromEnvelope(text) {
  const envelope = parse(text);
  if (envelope === null || typeof envelope !== "object") return { payload: envelope };
  let payload = envelope.data;
  if (typeof payload === "string") payload = parse(payload);
  const seq = Number.isInteger(payload?.n) ? payload.n : undefined;
  return { stream: envelope.stream ?? "", subject: envelope.subject ?? "", time: envelope.time, payload, seq };
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

function onState(state, reason) {
  document.body.dataset.state = state;
  if (state !== "live") {
    const now = performance.now();
    if (level && journal.entries[0]?.state !== "open") charts.mark(Date.now(), "bad"); // else it is marked already
    if (met) journal.gone(now, continuity.count(now));
    for (const entry of journal.entries) entry.ran ??= ran;
    level = false;
    continuity.away();
    document.body.dataset.verdict = "";
  }
  showProblem(reason);
  showState();
}

// --- the truth ---------------------------------------------------------------

async function askTruth() {
  const asked = performance.now();
  try {
    const answer = await fetch("/truth", { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const statement = await answer.json();
    if (truth !== null && statement.run !== truth.run) {
      location.reload(); // the demo was started again, perhaps with another page
      return;
    }
    truth = statement;
    continuity.state(statement, asked);
    nameSuccessor(statement.bridge);
    reachable = true;
  } catch {
    reachable = false;
  }
  showState();
  const busy = !level || truth?.bridge.state !== "running" || journal.entries.some(({ state }) => state === "open");
  setTimeout(askTruth, busy ? TRUTH_HURRY : TRUTH_INTERVAL);
}

// nameSuccessor says in the journal which process took over from which. A bridge
// may also have been killed by somebody else.
function nameSuccessor({ pid, starts }) {
  if (pid === 0) return;
  for (const entry of journal.entries) {
    if (entry.successor || !["kill", "lost"].includes(entry.kind)) continue;
    if (starts === entry.ran.starts) continue;
    entry.successor = pid;
    if (entry.kind === "lost") entry.title = `Process ${entry.ran.pid} has died`;
    entry.title += `, ${pid} took over`;
  }
  ran = { pid, starts };
}

// --- buttons -----------------------------------------------------------------

// press asks for a deed and keeps it in the journal. title says what is done,
// done what was, by the answer.
async function press(button, deed, { words = {}, title, done = () => title, tone = "bad" }) {
  const now = performance.now();
  showProblem("");
  const entry = title === undefined ? null : journal.deed(deed, title, now, continuity.count(now), words.stream);
  if (entry !== null) {
    entry.ran = ran;
    charts.mark(Date.now(), tone);
  }
  button.disabled = true;
  try {
    const answer = await fetch(`/do/${deed}`, { method: "POST", body: JSON.stringify(words) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const told = await answer.json();
    if (entry !== null) entry.title = done(told);
  } catch (error) {
    if (entry === null) showProblem(error.message);
    else journal.fail(entry, error.message);
  } finally {
    button.disabled = false;
    showState();
  }
}

$("kill").addEventListener("click", (event) => {
  press(event.currentTarget, "kill", { title: `kill -9 ${truth?.bridge.pid || ""}`, done: ({ pid }) => (pid ? `kill -9 ${pid}` : "The bridge was down already") });
});

$("cut").addEventListener("click", (event) => {
  press(event.currentTarget, "cut", {
    words: { tab },
    title: "Cut this connection",
    done: ({ sent, of }) => (of > 0 ? `Cut this connection after ${sent} of ${of} bytes` : "Cut this connection"),
  });
});

$("power").addEventListener("click", (event) => {
  const button = event.currentTarget;
  if (button.dataset.do === "start") press(button, "start", {});
  else press(button, "stop", { title: "Took the bridge down" });
});

for (const button of document.querySelectorAll("[data-recreate]")) {
  const stream = button.dataset.recreate;
  button.addEventListener("click", () => press(button, "recreate", { words: { stream }, title: `Deleted ${stream}, and made it anew`, tone: "warn" }));
}

// The storm presses buttons by itself: whenever the page has recovered from one,
// and a moment later, the next, in another order each round.
$("storm").addEventListener("click", (event) => {
  const on = event.currentTarget.getAttribute("aria-pressed") === "false";
  event.currentTarget.setAttribute("aria-pressed", String(on));
  clearInterval(storm);
  if (on) storm = setInterval(strike, STORM_INTERVAL);
});
let storm = 0;
let targets = [];

function strike() {
  if (!level || journal.entries.some(({ state }) => state === "open")) return;
  if (targets.length === 0) {
    targets = [$("kill"), $("cut"), ...document.querySelectorAll("[data-recreate]")];
    targets.sort(() => Math.random() - 0.5);
  }
  targets.pop().click();
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = $(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no permission: one key away
      button.textContent = "Ctrl-C";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// --- what is shown -----------------------------------------------------------

function setPill(id, tone, text) {
  const pill = $(id);
  pill.dataset.tone = tone;
  if (pill.firstElementChild.textContent !== text) pill.firstElementChild.textContent = text;
}

function showState() {
  const { state } = document.body.dataset;
  if (!reachable) setPill("state", "bad", "the demo has ended");
  else if (state === "live") setPill("state", level ? "good" : "busy", level ? "live" : "catching up");
  else setPill("state", state === "ended" ? "bad" : "busy", state);

  const bridge = truth?.bridge ?? { state: "down", pid: 0 };
  if (!reachable) setPill("bridge", "idle", "bridge");
  else if (bridge.state === "running") setPill("bridge", "good", `bridge ${bridge.pid}`);
  else setPill("bridge", "bad", bridge.state === "waiting" ? "bridge starts again" : "bridge down");
  $("bridge").title = bridge.state === "running" ? `process ${bridge.pid}, the ${ordinal(bridge.starts)} one` : "no process";

  const down = bridge.state === "down" && truth !== null;
  $("kill").textContent = bridge.pid ? `kill -9 ${bridge.pid}` : "kill -9";
  $("power").dataset.do = down ? "start" : "stop";
  $("power").textContent = down ? "Bring it back" : "Take it down";
}

function ordinal(n) {
  const end = n % 100 > 10 && n % 100 < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] ?? "th";
  return `${n}${end}`;
}

function showProblem(text) {
  $("problem").textContent = text;
  $("problem").hidden = text === "";
}

function show() {
  const sums = continuity.count(performance.now());
  for (const [name, value] of Object.entries(sums)) {
    const text = value.toLocaleString("en");
    if ($(name).textContent !== text) $(name).textContent = text;
  }
  for (const name of ["lost", "doubled"]) $(name).parentElement.classList.toggle("bad", sums[name] > 0);
  $("waiting").classList.toggle("some", !level && sums.waiting > 0);
  $("announced").classList.toggle("some", sums.announced > 0);
  charts.hold(Date.now(), met ? sums.waiting : 0);
  ticker.show();
  showJournal(sums);
}

// showJournal writes the entries; their elements stay, so that nothing jumps.
const shown = new Map(); // by entry
const OPEN = { recreate: "deleted", told: "told" }; // what an entry is called until it is done, else away

function showJournal(sums) {
  const list = $("entries");
  $("journal-empty").hidden = journal.entries.length > 0;
  list.hidden = journal.entries.length === 0;
  for (const entry of journal.entries.toReversed()) {
    if (!shown.has(entry)) {
      shown.set(entry, makeEntry(entry));
      list.prepend(shown.get(entry).item);
    }
    const { item, title, pill, text } = shown.get(entry);
    const verdict = entry.state === "done" ? entry.result.verdict : entry.state === "open" ? OPEN[entry.kind] ?? "away" : entry.state;
    const says = outcome(entry, sums);
    if (title.textContent !== entry.title) title.textContent = entry.title;
    if (text.textContent !== says) text.textContent = says;
    if (pill.textContent !== verdict) {
      pill.textContent = verdict;
      pill.dataset.tone = entry.state === "open" ? "busy" : { exact: "good", failed: "bad" }[verdict] ?? "warn";
      if (entry.state !== "open") $("announcer").textContent = `${entry.title}: ${verdict}, ${says}`;
    }
    item.classList.toggle("bad", entry.state === "done" && !says.includes(" 0 lost, 0 doubled"));
  }
  for (const [entry, { item }] of shown) {
    if (journal.entries.includes(entry)) continue;
    item.remove();
    shown.delete(entry);
  }
}

function makeEntry(entry) {
  const item = document.createElement("li");
  item.dataset.kind = entry.kind;
  const [time, title, pill, text] = ["time", "b", "span", "span"].map((kind) => document.createElement(kind));
  time.textContent = clock(new Date(Date.now() - (performance.now() - entry.at)), 0);
  pill.className = "pill";
  text.className = "outcome";
  item.append(time, title, pill, text);
  return { item, title, pill, text };
}

function draw() {
  charts.draw(Date.now());
  $("rate").textContent = met ? `${charts.rate} a second` : "";
  const { events } = document.documentElement.dataset;
  const id = follower.lastID === "" ? "" : `-H 'Last-Event-ID: ${follower.lastID}' `;
  const command = `curl -N ${id}'${events}'`;
  if (getSelection().isCollapsed && $("resume").textContent !== command) $("resume").textContent = command;
}

setInterval(show, SHOW_INTERVAL);
setInterval(draw, DRAW_INTERVAL);
setTimeout(() => charts.hideEmpty(), 10_000);
setInterval(() => charts.hideEmpty(), 60_000);
askTruth();
follower.open(["host.>", "prices.>"]);
