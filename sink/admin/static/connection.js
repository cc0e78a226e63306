// The connection: reads a stream with fetch, and comes back by itself at the last
// event id, as EventSource does, only visibly: each status, comment and problem
// is told. Unlike EventSource it does not give up on an error that may pass.

import { Parser } from "./sse.js";

const FIRST_BACKOFF = 500; // ms, while nobody has said another one
const MAX_BACKOFF = 15_000;
const SILENCE = 2.5; // heartbeats missed until a connection counts as dead

// A Connection follows one address at a time.
//
//   idle ─ open ─► connecting ──► live ──► waiting ──► connecting …
//   any ─ close ─► idle (the position stays, so open({resume: true}) goes on)
//   connecting ─ the server says that this request will never do ─► refused
//
// What it tells, by the functions that it is given:
//
//   onState(state, {text, at})  at is when it will try again, for waiting
//   onOpen({status, type, resumed, attempt, took, protocol})
//   onEvent({name, data, id, bytes, at})
//   onComment(text), onRetry(ms)
//   onEnd({reason, clean, open})  a connection has ended; open is how long it was
//   onProblem({status, title, detail, advice, code, passes})
//
// No event is lost or doubled on the way: an id counts only with the blank line
// behind it, which is also what makes its event, and after close nothing is told.
export class Connection {
  #abort = null;
  #timer = 0;
  #watch = 0;
  #failures = 0;
  #attempt = 0;

  constructor(tell) {
    this.tell = tell;
    this.state = "idle";
    this.url = "";
    this.lastID = "";
    this.retry = null; // ms, as the server said
    this.heartbeat = null; // s, as it said
  }

  // open follows url from now on. With lastID it goes on behind that event.
  open(url, lastID = "") {
    this.#stop();
    if (url !== this.url) this.retry = this.heartbeat = null;
    this.url = url;
    this.lastID = lastID;
    this.#failures = 0;
    this.#connect();
  }

  // resume goes on where the last event left off, at once.
  resume() {
    this.open(this.url, this.lastID);
  }

  // close disconnects. What the server has sent meanwhile and was not read is
  // behind the position, and comes again with resume.
  close() {
    this.#stop();
    this.#set("idle");
  }

  // retryNow ends a wait for the next attempt.
  retryNow() {
    if (this.state === "waiting") this.#connect();
  }

  #set(state, facts = {}) {
    this.state = state;
    this.tell.onState(state, facts);
  }

  #stop() {
    this.#attempt++; // what comes late of an earlier attempt is not told
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    this.#abort?.abort();
    this.#abort = null;
  }

  async #connect() {
    this.#stop();
    const attempt = this.#attempt;
    const current = () => attempt === this.#attempt;
    const abort = (this.#abort = new AbortController());
    this.#set("connecting");
    const asked = performance.now();
    const resumed = this.lastID;
    const headers = { Accept: "text/event-stream" };
    if (resumed !== "") headers["Last-Event-ID"] = resumed;
    let answer;
    try {
      answer = await fetch(this.url, { headers, signal: abort.signal, cache: "no-store", credentials: "same-origin" });
    } catch (error) {
      if (current()) this.#failed({ title: "The server cannot be reached", detail: String(error?.message ?? error), passes: true });
      return;
    }
    if (!current()) return;
    const type = answer.headers.get("Content-Type") ?? "";
    if (answer.status !== 200 || !/^text\/event-stream\s*(;|$)/i.test(type)) {
      const problem = await problemOf(answer, type);
      abort.abort(); // the body may be of any length
      if (current()) this.#failed(problem);
      return;
    }
    this.tell.onOpen({ status: answer.status, type, resumed, took: performance.now() - asked });
    const opened = performance.now();
    this.#set("live");
    let closing = null;
    const parser = new Parser({
      lastID: resumed,
      onEvent: (event) => {
        if (!current()) return;
        this.lastID = event.id;
        this.#failures = 0;
        if (event.name === "connected") this.heartbeat = member(event.data, "heartbeat") ?? this.heartbeat;
        if (event.name === "closing") closing = member(event.data, "reason") ?? "told";
        event.at = Date.now();
        this.tell.onEvent(event);
      },
      onComment: (text) => current() && this.tell.onComment(text),
      onRetry: (ms) => {
        if (!current()) return;
        this.retry = ms;
        this.tell.onRetry(ms);
      },
    });
    let reason = "";
    try {
      const reader = answer.body.getReader();
      for (this.#awake(attempt); ; this.#awake(attempt)) {
        const { done, value } = await reader.read();
        if (!current()) return;
        if (done) break;
        parser.feed(value);
        if (!current()) return; // an event closed or opened the connection
        this.lastID = parser.lastID; // an id may come without an event
      }
    } catch (error) {
      if (!current()) return;
      reason = abort.signal.aborted ? "silent for too long" : String(error?.message ?? error);
    }
    this.tell.onEnd({ reason: closing ?? (reason || "ended"), clean: reason === "", told: closing !== null, open: performance.now() - opened });
    this.#wait();
  }

  // awake notes that the connection lives. Where the server has told how often it
  // says something, longer silence means that the network has lost it.
  #awake(attempt) {
    clearTimeout(this.#watch);
    if (this.heartbeat === null || !(this.heartbeat > 0)) return;
    this.#watch = setTimeout(() => attempt === this.#attempt && this.#abort?.abort(), this.heartbeat * SILENCE * 1000);
  }

  #failed(problem) {
    this.tell.onProblem(problem);
    if (problem.passes) {
      this.#failures++;
      this.#wait();
    } else {
      this.#stop();
      this.#set("refused", { problem });
    }
  }

  #wait() {
    this.#stop();
    let wait = this.retry ?? FIRST_BACKOFF;
    if (this.#failures > 0) wait = Math.min(MAX_BACKOFF, Math.max(wait, FIRST_BACKOFF * 2 ** Math.min(this.#failures - 1, 10))) * (0.75 + Math.random() / 2);
    this.#set("waiting", { at: Date.now() + wait });
    this.#timer = setTimeout(() => this.#connect(), wait);
  }
}

// problemOf reads the answer to a request that is not a stream.
async function problemOf(answer, type) {
  const { status } = answer;
  const problem = {
    status,
    title: status === 200 ? "This is not an event stream" : `The server answers ${status} ${answer.statusText}`.trim(),
    detail: status === 200 ? `its Content-Type is ${type || "not told"}` : "",
    passes: status >= 500 || status === 408 || status === 429,
  };
  if (status === 204) problem.title = "The server says that there is nothing to follow (204)";
  if (!/json/i.test(type) || status === 200) return problem;
  try {
    const body = JSON.parse(await answer.text());
    for (const name of ["title", "detail", "advice", "code"]) {
      if (typeof body[name] === "string") problem[name] = body[name];
    }
  } catch {
    // then the status has to do
  }
  return problem;
}

function member(text, name) {
  try {
    return JSON.parse(text)?.[name];
  } catch {
    return undefined;
  }
}
