// The connection: an EventSource that is opened again when the browser gives it
// up, always at the last event id, so that no event is missed or comes twice.

// The bridge's own events. EventSource hands out named events only by name.
const CONTROL = [
  "connected", "caught-up", "position", "gap", "reset", "closing",
  "expiring", "delete", "snapshot-end", "binary",
];

const FIRST_BACKOFF = 500; // ms
const MAX_BACKOFF = 10_000;

// Follower follows one address. Without an event id it begins at start, as the
// bridge understands it: "1m" for a minute ago, "" for what comes next.
//
//   connecting ──► live ──► reconnecting ──► live …
//   any ─ the bridge refuses the request ─► ended ─ open ─► connecting
//
// onEvent gets every event, the bridge's own too: {name, id, data}, data as
// text. onState gets each change: (state, reason).
export class Follower {
  constructor(address, { start = "", onEvent, onState }) {
    this.address = address;
    this.start = start;
    this.onEvent = onEvent;
    this.onState = onState;
    this.patterns = [];
    this.lastID = "";
    this.source = null;
    this.timer = 0;
    this.failures = 0;
    this.attempt = 0; // counts connections, so that late answers are known as such
  }

  // open follows these patterns from now on; none means everything. Streams that
  // the last event id names go on there, others begin with what comes next.
  open(patterns) {
    this.patterns = patterns;
    this.failures = 0;
    this.#connect("connecting");
  }

  get url() {
    const url = new URL(this.address, location.href);
    for (const pattern of this.patterns) url.searchParams.append("subject", pattern);
    url.searchParams.set("format", "envelope");
    if (this.start !== "") url.searchParams.set("start", this.start);
    // EventSource cannot send a header of ours; when it reconnects by itself it
    // sends the newer id as Last-Event-ID, which the bridge prefers.
    if (this.lastID !== "") url.searchParams.set("lastEventId", this.lastID);
    return url;
  }

  #disconnect() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.attempt++;
  }

  #connect(state) {
    this.#disconnect();
    this.onState(state, "");
    const source = new EventSource(this.url);
    this.source = source;
    const take = (event) => {
      if (source !== this.source) return; // closed meanwhile
      if (event.lastEventId !== "") this.lastID = event.lastEventId;
      if (event.type === "connected") {
        this.failures = 0;
        this.onState("live", "");
      }
      this.onEvent({ name: event.type, id: event.lastEventId, data: event.data });
    };
    source.addEventListener("message", take);
    for (const name of CONTROL) source.addEventListener(name, take);
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      if (source.readyState === EventSource.CONNECTING) {
        this.onState("reconnecting", ""); // the browser tries again by itself
      } else {
        this.#reopen();
      }
    });
  }

  // reopen makes a new EventSource: every answer but 200, such as the 502 of a
  // proxy whose bridge is restarting, ends the old one for good.
  async #reopen() {
    this.#disconnect();
    const attempt = this.attempt;
    this.onState("reconnecting", "");
    const refusal = await this.#refusal();
    if (attempt !== this.attempt) return;
    if (refusal !== "") {
      this.onState("ended", refusal);
      return;
    }
    const longest = Math.min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** this.failures++);
    const wait = longest / 2 + (Math.random() * longest) / 2; // so that pages do not come back all at once
    this.timer = setTimeout(() => this.#connect("reconnecting"), wait);
  }

  // refusal asks why: EventSource hides the status and the text. It returns ""
  // unless the bridge says that this request will never do.
  async #refusal() {
    const abort = new AbortController();
    const timeout = setTimeout(() => abort.abort(), 3000);
    try {
      const answer = await fetch(this.url, { signal: abort.signal, cache: "no-store" });
      const { status } = answer;
      if (status < 400 || status >= 500 || status === 408 || status === 429) return "";
      const problem = await answer.json().catch(() => ({}));
      return problem.detail ?? problem.title ?? `the bridge answers ${status}`;
    } catch {
      return ""; // not reachable: that passes
    } finally {
      clearTimeout(timeout);
      abort.abort(); // a 200 would go on for ever
    }
  }
}
