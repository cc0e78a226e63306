// The inspector: what is typed and pressed, and what the parts show of it.
//
//   Connection ─ events ─► makeRow ─► Store ─► VirtualList ─► detail
//        │                    │         ▲ search
//        │                    └► Rates ─► Chart
//        └─ states, comments, problems ─► Timeline
//
// For programs that read the page: body has data-state (loading, idle, connecting,
// live, waiting, refused, paused, locked), data-verdict (of the last connected),
// data-rows (kept), data-records (received) and data-waiting (held by a pause); a
// row has data-n, data-name, data-id and data-subject; an entry of the timeline
// data-kind. As rows are few at a time, every event is also told on document, as
// "inspector-event" with {n, name, id, stream, subject, partition, offset, data}.

import { Chart } from "./chart.js";
import { Completion, faultOf, offersFor } from "./completion.js";
import { Connection } from "./connection.js";
import { showDetail } from "./detail.js";
import { complete, makeRow, RowEvent } from "./event.js";
import { VirtualList } from "./list.js";
import { asCurl, asEventSource, eventsURL, pageSearch, patternsIn, readable, readQuery, searchFor } from "./query.js";
import { Rates } from "./rates.js";
import { Store } from "./store.js";
import { Timeline } from "./timeline.js";
import { clock, count, element, marked, size, span } from "./words.js";

const MAX_HELD = 20_000; // events that a pause holds before it disconnects
const MAX_HELD_BYTES = 32 << 20;
const CELLS = ["time", "subject", "name", "place", "lag", "size", "payload"];
const MAX_SEEN = 5_000; // subjects that are kept to be offered
const MAX_NAMES = 100; // of events, for the code: records may make up any number
const SCAN = 8; // ms of searching at a time, so that the page stays smooth

const $ = (id) => document.getElementById(id);
const { body } = document;

let config = { admin: true, session: false, version: "", events: "/events", streams: [] };
let query = readQuery(location.search);
let words = null; // what the search marks
let before = ""; // the event id in front of the next event
let total = 0; // records received since the last connect
let volume = 0; // bytes of them
let started = false; // something was asked for, so there is a connection to talk about
let quietSince = 0;
let paused = false;
let held = []; // rows that a pause holds back
let heldBytes = 0;
let cutOff = false; // the pause has disconnected
let problem = null; // why the server refuses
let comesBack = 0; // when a waiting connection tries again
let followedTo = 0; // number of the row that came next when auto-scroll ended
let offersAt = 0; // when real subjects were asked for last
let [scanning, typed, saying] = [0, 0, 0]; // timers
const names = new Set(); // of events so far
const seen = new Map(); // subject -> stream

const store = new Store();
const rates = new Rates();
const timeline = new Timeline({ list: $("timeline"), strip: $("strip") });
const chart = new Chart($("chart"), {
  label: "Events per second, by subject",
  unit: "/s",
  from: 0,
  onPick: (name) => !name.endsWith(" more") && search(name),
});

const connection = new Connection({
  onState,
  onEvent,
  onComment: () => timeline.heartbeat(),
  onRetry: () => {},
  onOpen: ({ status, took, resumed }) =>
    timeline.add("open", resumed === "" ? "connected" : "connected again", { tone: "good", note: `status ${status} after ${span(took)}${resumed === "" ? "" : ", with Last-Event-ID"}` }),
  onEnd: ({ reason, told, clean, open }) =>
    timeline.add("end", told ? "connection ended as told" : clean ? "connection ended by the server" : "connection lost", { tone: told ? "warn" : "bad", note: `${told || !clean ? `${reason}, ` : ""}after ${span(open)}` }),
  onProblem: (why) => {
    problem = why;
    if (why.status === 401) load(); // which asks for the token, if it is that which is missing
    timeline.add("problem", why.title, { tone: "bad", note: [why.status, why.code, why.detail].filter((part) => part).join(", ") });
  },
});

const list = new VirtualList({ grid: $("grid"), rows: $("rows"), view: store, make: makeLine, fill: fillLine, onFollow: showFollow });

// --- events ------------------------------------------------------------------

function onEvent(event) {
  const row = makeRow(event, before);
  before = event.id;
  if (row.control || names.size < MAX_NAMES) names.add(event.name);
  if (row.control) onControl(row);
  else {
    total++;
    volume += event.bytes;
    const by = row.subject || row.stream || row.name;
    rates.add(by, row.at);
    if (row.subject !== "" && !seen.has(row.subject) && seen.size < MAX_SEEN) seen.set(row.subject, row.stream);
  }
  quietSince = row.at;
  if (paused) hold(row);
  else show(row);
}

function onControl(row) {
  complete(row, timed);
  let told = {};
  try {
    told = JSON.parse(row.data) ?? {};
  } catch {
    return; // not the bridge's own after all
  }
  switch (row.name) {
    case "connected": {
      const verdict = String(told.resume ?? "");
      body.dataset.verdict = verdict;
      $("verdict").textContent = verdict === "" ? "" : `resume: ${verdict}`;
      const bad = verdict === "gap" || verdict === "reset";
      const streams = Object.entries(told.streams ?? {}).map(([stream, its]) => `${stream} ${its}`);
      if (told.dropped?.length > 0) streams.push(`dropped: ${told.dropped.join(", ")}`);
      timeline.add("verdict", `verdict ${verdict}`, { tone: bad ? "bad" : "good", note: streams.join(", ") });
      break;
    }
    case "gap":
    case "reset":
      timeline.add(row.name, row.name, { tone: "bad", note: row.preview });
      break;
    case "closing":
      timeline.add("closing", "the server says goodbye", { tone: "warn", note: String(told.reason ?? "") });
      break;
    case "caught-up":
      timeline.add("caught-up", "caught up", { tone: "good", note: "all history is delivered, now live" });
      break;
    case "expiring":
      timeline.add("expiring", "the permission ends soon", { tone: "warn", note: String(told.at ?? "") });
  }
}

function show(row) {
  store.add(row);
  document.dispatchEvent(new RowEvent(row, timed));
  list.grow();
}

function timed(stream) {
  return config.streams.find(({ name }) => name === stream)?.broker === "nats";
}

// --- pause -------------------------------------------------------------------

// hold keeps a row back. When there are too many, the connection is closed: the
// server, or the broker behind it, keeps the rest.
function hold(row) {
  held.push(row);
  heldBytes += row.cost;
  if (held.length < MAX_HELD && heldBytes < MAX_HELD_BYTES) return;
  cutOff = true;
  connection.close();
  timeline.add("pause", "disconnected while paused", {
    tone: connection.lastID === "" ? "bad" : "warn",
    note: connection.lastID === "" ? "this stream has no ids: what comes now is lost" : `${count(held.length, "event")} wait; goes on exactly there`,
  });
}

function setPaused(on) {
  if (on === paused || (on && !started)) return;
  paused = on;
  $("pause").setAttribute("aria-pressed", String(on));
  $("pause").lastElementChild.textContent = on ? "Resume" : "Pause";
  timeline.add(on ? "pause" : "resume", on ? "paused" : "resumed", { note: on ? "the page reads on" : `${count(held.length, "event")} had waited` });
  if (!on) {
    for (const row of held) show(row);
    held = [];
    heldBytes = 0;
    if (cutOff) connection.resume();
    cutOff = false;
  }
  showState();
  say(on ? "Paused" : "Resumed");
}

// --- rows --------------------------------------------------------------------

function makeLine() {
  const line = element("div", "line");
  line.setAttribute("role", "row");
  line.hidden = true;
  for (const kind of CELLS) {
    const cell = element("span", kind, "");
    cell.setAttribute("role", "gridcell");
    line.append(cell);
  }
  return line;
}

function fillLine(line, row) {
  complete(row, timed);
  const [time, subject, name, place, lag, bytes, payload] = line.children;
  line.dataset.n = row.n;
  line.dataset.name = row.name;
  line.dataset.id = row.id;
  line.dataset.subject = row.subject;
  line.classList.toggle("control", row.control);
  line.classList.toggle("named", row.name !== "message");
  write(time, clock(row.at));
  write(subject, row.subject || row.stream, true);
  write(name, row.name, true);
  write(place, row.offset === null ? "" : `${row.partition}:${row.offset}`);
  write(lag, row.time === null ? "" : span(row.at - row.time));
  write(bytes, size(row.bytes));
  write(payload, row.preview, true);
}

function write(cell, text, searched = false) {
  if (searched && words !== null) {
    cell.replaceChildren(...marked(text, words));
    cell.wrote = null;
  } else if (cell.wrote !== text) {
    cell.textContent = cell.wrote = text;
  }
}

function select(n, { open = !$("detail").hidden, reveal = true } = {}) {
  const row = n === null ? undefined : store.get(n);
  list.selected = row === undefined ? null : n;
  if (row === undefined) {
    closeDetail();
  } else {
    setFollow(false); // or the chosen row would run away
    if (open) {
      showDetail($("detail"), complete(row, timed), {
        onResume: () => resumeFrom(row),
        onCopy: copy,
        onCode: () => showCode(row),
        onClose: () => {
          closeDetail();
          $("grid").focus();
        },
      });
      $("detail").hidden = false;
    }
    if (reveal) requestAnimationFrame(() => list.reveal(n));
  }
  list.refresh();
}

function closeDetail() {
  $("detail").hidden = true;
  $("detail").replaceChildren();
}

// step chooses the row so many further on in what the search shows.
function step(by) {
  if (store.length === 0) return;
  const last = store.hidden + store.length - 1;
  let place = list.selected === null ? (by > 0 ? Math.max(store.hidden, last - list.page + 1) : last) : store.placeOf(list.selected) + by;
  place = Math.min(Math.max(place, store.hidden), last);
  select(store.at(place).n);
}

function setFollow(on) {
  if (on) list.selected = $("detail").hidden ? null : list.selected;
  list.follow = on;
  showFollow(on);
  list.refresh();
}

function showFollow(on) {
  $("autoscroll").setAttribute("aria-pressed", String(on));
  followedTo = store.next;
  showNewest();
}

function showNewest() {
  const behind = list.follow ? 0 : Math.max(0, store.next - followedTo);
  $("newest").hidden = behind === 0;
  if (behind > 0) $("newest").textContent = `${behind.toLocaleString("en")} newer ↓`;
}

function clear() {
  store.clear();
  select(null);
  setFollow(true);
  showRows();
}

// --- search ------------------------------------------------------------------

function search(text) {
  $("search").value = text;
  query.search = text.trim();
  const found = searchFor(text);
  words = found.words;
  store.search(found.filter);
  history.replaceState(null, "", location.pathname + pageSearch(query));
  clearTimeout(scanning);
  scan();
  if (list.selected !== null) requestAnimationFrame(() => list.selected !== null && list.reveal(list.selected));
}

function scan() {
  const done = store.scan(SCAN);
  list.refresh(true);
  showRows();
  if (!done) scanning = setTimeout(scan);
  else if (store.filter) announce(count(store.length, "row matches", "rows match"));
}

// --- connecting --------------------------------------------------------------

function connect(id = "") {
  let url;
  try {
    url = eventsURL(query, config.events);
  } catch (error) {
    showFault(error.message);
    return;
  }
  showFault("");
  started = true;
  problem = null;
  paused = cutOff = false;
  held = [];
  heldBytes = 0;
  $("pause").setAttribute("aria-pressed", "false");
  $("pause").lastElementChild.textContent = "Pause";
  if (id === "") {
    store.clear();
    select(null);
    rates.clear();
    total = volume = 0;
  }
  before = id;
  quietSince = Date.now();
  query.from = id;
  history.replaceState(null, "", location.pathname + pageSearch(query));
  showAsked();
  setFollow(true);
  timeline.add("connecting", id === "" ? "connecting" : "connecting, to go on behind an id", { note: readable(url) });
  connection.open(url.href, id);
  delete body.dataset.edit;
  $("edit").setAttribute("aria-expanded", "false");
}

// goOn connects again where the connection was closed.
function goOn() {
  timeline.add("connecting", "connecting again", { note: connection.lastID === "" ? "there is no id to go on behind" : "to go on behind the last id" });
  connection.resume();
}

// resumeFrom goes on behind a row, as a client would that saw nothing after it.
function resumeFrom(row) {
  if (row.id === "") return;
  closeDetail();
  store.cut(row.n);
  list.selected = null;
  connect(row.id);
  $("grid").focus();
  say(`Reading on from row ${clock(row.at)}`);
}

function submit() {
  const patterns = patternsIn($("subjects").value);
  const url = $("from-url").getAttribute("aria-pressed") === "true" ? $("url").value.trim() : "";
  const faults = url === "" ? patterns.map(faultOf).filter((fault) => fault !== "") : [];
  if ($("from-url").getAttribute("aria-pressed") === "true" && url === "") faults.push(`type the address of an event stream, such as ${config.events}`);
  let start = $("start").value;
  if (start === "other") {
    start = $("start-other").value.trim();
    if (start === "") faults.push("say where to start: a duration back from now, such as 90m, or a time, such as 2026-01-31T12:00:00Z");
  }
  $("subjects").setAttribute("aria-invalid", String(url === "" && faults.length > 0));
  if (faults.length > 0) {
    showFault(faults.join("; "));
    return;
  }
  const streams = [...$("streams").children].filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.stream);
  query = { streams, subjects: patterns, start, format: $("format").value, url, search: query.search, from: "" };
  connect();
}

function showFault(text) {
  $("fault").textContent = text;
  $("fault").hidden = text === "";
}

// fillForm writes the query into the fields.
function fillForm() {
  $("subjects").value = query.subjects.join(" ");
  $("url").value = query.url;
  $("format").value = query.format;
  const known = [...$("start").options].some((option) => option.value === query.start);
  $("start").value = known ? query.start : "other";
  $("start-other").value = known ? "" : query.start;
  $("start-other").hidden = known;
  showSource(query.url !== "");
  $("search").value = query.search;
}

function showSource(url) {
  $("from-streams").setAttribute("aria-pressed", String(!url));
  $("from-url").setAttribute("aria-pressed", String(url));
  for (const part of document.querySelectorAll("[data-source]")) part.hidden = (part.dataset.source === "url") !== url;
}

function fillStreams() {
  $("streams").replaceChildren(
    ...config.streams.map(({ name, broker, subjects }) => {
      const chip = element("button", "chip", name);
      chip.type = "button";
      chip.dataset.stream = name;
      chip.title = `${broker}${subjects ? `: ${subjects.join(", ")}` : ""}`;
      chip.setAttribute("aria-pressed", String(query.streams.includes(name)));
      return chip;
    }),
  );
}

function showAsked() {
  const parts = query.url !== "" ? [query.url] : [...query.streams, ...query.subjects];
  $("asked").textContent = parts.length > 0 ? parts.join(" ") : "everything";
}

// --- what is shown -----------------------------------------------------------

function onState(state, { at } = {}) {
  if (state === "connecting" || state === "waiting") {
    body.dataset.verdict = "";
    $("verdict").textContent = "";
  }
  if (state === "live") problem = null;
  comesBack = at ?? 0;
  timeline.turn(state);
  showState();
}

function showState() {
  const state = paused ? "paused" : connection.state;
  const changed = body.dataset.state !== state;
  body.dataset.state = state;
  const left = Math.max(0, comesBack - Date.now());
  const [tone, text] = {
    idle: ["idle", "disconnected"],
    connecting: ["busy", "connecting"],
    live: ["good", "live"],
    waiting: ["warn", left > 1000 ? `back in ${Math.ceil(left / 1000)} s` : "reconnecting"],
    refused: ["bad", "refused"],
    paused: ["idle", `paused, ${held.length.toLocaleString("en")} waiting`],
  }[state];
  $("state").dataset.tone = tone;
  if ($("state").textContent !== text) $("state").textContent = text;
  $("disconnect").hidden = connection.url === "" || connection.state === "refused" || cutOff;
  const press = connection.state === "idle" ? "Go on" : "Disconnect";
  if ($("disconnect").textContent !== press) $("disconnect").textContent = press;
  if (changed) {
    announce(state === "live" ? "Connected" : text);
    showRows();
  }
}

function showRows() {
  body.dataset.rows = store.rows.length;
  body.dataset.records = total;
  body.dataset.waiting = held.length;
  const now = Date.now();
  $("total").textContent = total.toLocaleString("en");
  const rate = rates.perSecond(now);
  $("per-second").textContent = total > 0 ? `${rate.toFixed(rate < 10 ? 1 : 0)}/s ` : "";
  $("volume").textContent = total > 0 ? size(volume) : "";
  $("matches").textContent = store.filter ? `${store.length.toLocaleString("en")} of ${store.rows.length.toLocaleString("en")}` : "";
  showNewest();
  showEmpty(now);
}

// showEmpty says what is the matter while there are no rows, and what to do.
function showEmpty(now) {
  const { state } = connection;
  const { length } = store.rows;
  let kind = "";
  if (!started) kind = "loading";
  else if (store.filter && length > 0) kind = store.length === 0 ? "unmatched" : "";
  else if (state === "live") kind = total === 0 && length < 5 && now - quietSince > 1500 ? "quiet" : "";
  else if (length === 0) kind = state === "refused" || state === "idle" ? state : problem !== null ? "away" : "connecting";
  const box = $("empty");
  box.hidden = kind === "";
  if (box.dataset.kind === kind && kind !== "refused") return;
  box.dataset.kind = kind;
  const button = (text, press) => {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", press);
    return made;
  };
  const restart = (start) => () => {
    query.start = start;
    fillForm();
    connect();
  };
  const what = query.url !== "" ? query.url : query.subjects.length > 0 ? query.subjects.join(" ") : query.streams.length > 0 ? query.streams.join(", ") : "anything";
  const choices = element("div", "choices");
  switch (kind) {
    case "":
      box.replaceChildren();
      return;
    case "loading":
      box.replaceChildren(element("p", "", "Asking the bridge what there is to follow…"));
      return;
    case "connecting":
      box.replaceChildren(element("p", "", "Connecting… The first block of every response tells the verdict, and the id where it starts."));
      return;
    case "quiet":
      if (query.url === "" && query.start === "new") choices.append(button("Show the last 15 minutes", restart("15m")), button("Show all there is", restart("all")));
      box.replaceChildren(element("h2", "", "Connected, and quiet"), element("p", "", `No record of ${what} has come yet. Heartbeats on the timeline show that the connection lives.`), choices);
      return;
    case "idle":
      choices.append(button("Go on", goOn));
      box.replaceChildren(element("h2", "", "Disconnected"), element("p", "", "The page keeps its position: when it connects again, it goes on exactly there."), choices);
      return;
    case "unmatched":
      choices.append(button("Show all rows", () => search("")));
      box.replaceChildren(element("h2", "", "No row matches"), element("p", "", `${count(store.rows.length, "row")} kept here, and none has all the words of the search. New ones are searched as they come.`), choices);
      return;
    case "away":
      choices.append(button("Try now", () => connection.retryNow()));
      box.replaceChildren(element("h2", "", problem.title), element("p", "", [problem.detail, "The page tries again by itself, at the position that it has."].filter((part) => part).join(". ")), choices);
      return;
    case "refused":
      choices.append(button("Try again", () => connection.resume()));
      box.replaceChildren(
        element("h2", "", problem?.title ?? "The server refuses"),
        element("p", "", problem?.detail ?? ""),
        element("p", "", problem?.advice ?? ""),
        element("p", "mono", [problem?.status, problem?.code].filter((part) => part).join(" ")),
        choices,
      );
  }
}

// say shows a short message, and announce has it read out only.
function say(text) {
  $("say").classList.remove("quiet");
  $("say").textContent = text;
  clearTimeout(saying);
  saying = setTimeout(() => ($("say").textContent = ""), 2500);
}

function announce(text) {
  if ($("say").textContent !== "" && !$("say").classList.contains("quiet")) return; // what is seen is read out as well
  $("say").classList.add("quiet");
  $("say").textContent = text;
}

// --- code to copy ------------------------------------------------------------

function showCode(row = list.selected === null ? undefined : store.get(list.selected)) {
  let url;
  try {
    url = eventsURL(query, config.events);
  } catch {
    return;
  }
  const id = row?.id ?? "";
  $("code-note").textContent = id === "" ? "What the page follows now, from the start that is set. Choose a row first to begin behind it." : `Goes on behind the event that arrived at ${clock(row.at)}.`;
  if (names.size >= MAX_NAMES) $("code-note").textContent += ` The code knows the first ${MAX_NAMES} names of events.`;
  $("curl-text").textContent = asCurl(url, id, config.session);
  $("code-token").textContent = config.session
    ? "This listener wants its token: curl takes it from SSEBRIDGE_ADMIN_TOKEN in your shell; EventSource cannot send it, and works in pages of this origin after a login. The listener for clients does not ask for it."
    : "Neither holds a token. Where one is needed, put it in yourself.";
  $("source-text").textContent = asEventSource(url, id, [...names]);
  $("code-dialog").showModal();
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
  } catch {
    say("The browser does not let the page copy: mark the text and copy it by hand");
  }
}

// --- login -------------------------------------------------------------------

async function load() {
  let answer;
  try {
    answer = await fetch("config.json", { cache: "no-store", credentials: "same-origin" });
  } catch {
    return "The bridge cannot be reached.";
  }
  if (answer.status === 401) {
    lock();
    return "locked";
  }
  if (!answer.ok) {
    const why = await answer.json().catch(() => ({}));
    return why.detail ?? `The bridge answers ${answer.status}.`;
  }
  config = await answer.json();
  $("logout").hidden = !config.session;
  $("version").textContent = `ssebridge ${config.version}${config.admin ? "" : ", on the listener for clients"}`;
  return "";
}

function lock() {
  body.dataset.state = "locked";
  $("state").dataset.tone = "idle";
  $("state").textContent = "locked";
  $("empty").replaceChildren();
  if (!$("login-dialog").open) $("login-dialog").showModal();
  $("token").focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = $("token").value;
  $("token").value = ""; // it is kept nowhere in the page
  $("login-fault").textContent = "";
  try {
    const answer = await fetch("login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }), credentials: "same-origin" });
    if (answer.status === 204) {
      $("login-dialog").close();
      await begin();
      return;
    }
    $("login-fault").textContent = answer.status === 401 ? "This is not the token." : ((await answer.json().catch(() => ({}))).detail ?? `The bridge answers ${answer.status}.`);
  } catch {
    $("login-fault").textContent = "The bridge cannot be reached.";
  }
  $("token").focus();
});
$("login-dialog").addEventListener("cancel", (event) => event.preventDefault()); // there is nothing behind it
$("logout").addEventListener("click", async () => {
  await fetch("logout", { method: "POST", credentials: "same-origin" }).catch(() => {});
  connection.close();
  location.reload(); // nothing that was shown stays in memory
});

// --- what is typed and pressed -----------------------------------------------

$("query").addEventListener("submit", (event) => {
  event.preventDefault();
  completion.hide();
  submit();
});
$("disconnect").addEventListener("click", () => {
  if (connection.state === "idle") goOn();
  else {
    connection.close();
    timeline.add("close", "disconnected", { note: "by hand; the position is kept" });
  }
});
$("from-streams").addEventListener("click", () => showSource(false));
$("from-url").addEventListener("click", () => {
  showSource(true);
  $("url").focus();
});
$("streams").addEventListener("click", (event) => {
  const chip = event.target.closest("button");
  if (chip) chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
});
$("start").addEventListener("change", () => {
  $("start-other").hidden = $("start").value !== "other";
  if ($("start").value === "other") $("start-other").focus();
});
$("edit").addEventListener("click", () => {
  const open = body.dataset.edit === undefined;
  if (open) body.dataset.edit = "";
  else delete body.dataset.edit;
  $("edit").setAttribute("aria-expanded", String(open));
});
$("views").addEventListener("click", (event) => {
  const { view } = event.target.closest("[data-view]")?.dataset ?? {};
  if (view === undefined) return;
  body.dataset.view = view;
  for (const button of document.querySelectorAll("#views [data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
});

const completion = new Completion($("subjects"), $("offers"), {
  candidates: () => {
    const chosen = [...$("streams").children].filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.stream);
    const all = chosen.length === 0;
    return offersFor(config.streams.filter(({ name }) => all || chosen.includes(name)), [...seen].filter(([, stream]) => all || chosen.includes(stream)));
  },
  onPick: () => {},
});
$("subjects").addEventListener("focus", async () => {
  if (Date.now() - offersAt < 5000) return;
  offersAt = Date.now();
  if ((await load()) === "" && completion.open) completion.show(); // the newest subjects
});

$("search").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => search($("search").value), 120);
});
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    clearTimeout(typed);
    search($("search").value);
    $("grid").focus();
  } else if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    clearTimeout(typed);
    search("");
    $("grid").focus();
  }
});
$("pause").addEventListener("click", () => setPaused(!paused));
$("autoscroll").addEventListener("click", () => setFollow(!list.follow));
$("newest").addEventListener("click", () => {
  select(null);
  setFollow(true);
  $("grid").focus();
});
$("clear").addEventListener("click", clear);
$("code").addEventListener("click", () => showCode());
$("help").addEventListener("click", () => $("help-dialog").showModal());
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme === "dark" || (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
  const theme = dark ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  remember("ssebridge-theme", theme);
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) dialog.close();
  });
}
document.addEventListener("click", (event) => {
  const from = event.target.closest("[data-copy]")?.dataset.copy;
  if (from) copy($(from).textContent, from === "curl-text" ? "Command" : "Code");
});

$("rows").addEventListener("click", (event) => {
  const line = event.target.closest(".line");
  if (line) select(Number(line.dataset.n), { open: true, reveal: true });
});

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // no storage: it holds until the page is closed
  }
}

try {
  $("keys").checked = localStorage.getItem("ssebridge-keys") !== "off";
} catch {
  // no storage: they are on
}
$("keys").addEventListener("change", () => remember("ssebridge-keys", $("keys").checked ? "on" : "off"));

// Keys that move in the rows work where the rows have the focus, letters
// everywhere but in fields.
const GRID_KEYS = {
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  PageDown: () => step(list.page),
  PageUp: () => step(-list.page),
  Home: () => step(-Infinity),
  End: () => step(Infinity),
  Enter: () => list.selected !== null && select(list.selected, { open: true }),
};
const LETTERS = {
  j: () => step(1),
  k: () => step(-1),
  g: () => step(-Infinity),
  G: () => step(Infinity),
  r: () => list.selected !== null && resumeFrom(store.get(list.selected)),
  " ": () => setPaused(!paused),
  a: () => setFollow(!list.follow),
  "/": () => $("search").select(),
  s: () => focusSubjects(),
  c: () => clear(),
  y: () => showCode(),
  t: () => $("theme").click(),
  "?": () => $("help-dialog").showModal(),
};

function focusSubjects() {
  body.dataset.edit = "";
  $("edit").setAttribute("aria-expanded", "true");
  showSource(false);
  $("subjects").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const { target, key } = event;
  if (key === "Escape" && !$("detail").hidden) {
    event.preventDefault();
    closeDetail();
    $("grid").focus();
    return;
  }
  if (target.matches("input, select, textarea")) return;
  let act = target === $("grid") || target === body ? GRID_KEYS[key] : undefined;
  if (act === undefined && $("keys").checked && !(key === " " && target.matches("button, a, summary"))) act = LETTERS[key];
  if (act === undefined) return;
  event.preventDefault();
  act();
  if ("jkgG".includes(key)) $("grid").focus({ preventScroll: true });
});

window.addEventListener("online", () => connection.retryNow());

// --- once a second, and the beginning ----------------------------------------

setInterval(() => {
  const now = Date.now();
  const series = rates.series(now);
  const bySubject = seen.size > 0 || total === 0;
  $("rate-by").textContent = bySubject ? "by subject" : "by stream";
  $("rate-nothing").hidden = series.length > 0;
  $("chart").hidden = series.length === 0;
  if (!document.hidden && series.length > 0) chart.draw(series, { now: Math.floor(now / 1000) * 1000, marks: timeline.losses });
  timeline.draw();
}, 1000);
setInterval(() => {
  if (body.dataset.state === "loading" || body.dataset.state === "locked") return;
  showState();
  showRows();
}, 250);

async function begin() {
  const why = await load();
  if (why === "locked") return;
  if (why !== "") {
    $("empty").hidden = false;
    const again = element("button", "", "Try again");
    again.addEventListener("click", begin);
    $("empty").replaceChildren(element("h2", "", "The inspector cannot begin"), element("p", "", why), again);
    $("state").dataset.tone = "bad";
    $("state").textContent = "no answer";
    return;
  }
  if (started) { // it was locked in between
    if (connection.state !== "live") goOn();
    showState();
    return;
  }
  fillStreams();
  fillForm();
  if (query.search !== "") search(query.search);
  connect(query.from);
}

showEmpty(Date.now());
begin();
