// Journal keeps what was done to the bridge and what became of it: how long the
// page was away, what was replayed, and what the bridge said of it.
//
//   deed ──► the connection is gone ──► connected ──► level again: done
//   deed "recreate" ──► the bridge tells a reset ──► the next record: done
//
// It is pure: times are handed in, in ms, and sums are those of Continuity.

const KEPT = 40; // entries, the newest first

export class Journal {
  constructor() {
    this.entries = [];
    this.away = null; // {since, verdict, replayed} while the page is not level
  }

  // deed opens an entry for what somebody does. kind is kill, cut, stop,
  // recreate, or lost for what nobody here did.
  deed(kind, title, now, sums, stream = "") {
    for (const entry of this.entries) {
      if (entry.state !== "open") entry.after ??= sums; // from here on, changes are the new entry's
    }
    const entry = { kind, title, stream, at: now, state: "open", before: sums, after: null, told: "", result: null };
    this.entries.unshift(entry);
    this.entries.length = Math.min(this.entries.length, KEPT);
    return entry;
  }

  // fail closes an entry whose deed could not be done.
  fail(entry, text) {
    entry.state = "failed";
    entry.told = text;
  }

  // gone says that the connection is gone. If nobody has asked for that, the
  // page says that it happened.
  gone(now, sums) {
    if (this.away !== null) return;
    this.away = { since: now, verdict: "", replayed: 0 };
    if (!this.#waiting().some((entry) => entry.kind !== "recreate")) this.deed("lost", "The connection broke", now, sums);
  }

  connected(verdict) {
    if (this.away !== null) this.away.verdict = verdict;
  }

  // told takes a gap or a reset.
  told(name, { stream, reason }, now, sums) {
    const entry = this.#waiting().find((each) => each.kind === "recreate" && each.stream === stream)
      ?? this.#waiting().find((each) => each.kind !== "recreate")
      ?? this.deed("told", name === "gap" ? `Records of ${stream} are gone` : `The history of ${stream} is another one`, now, sums, stream);
    entry.told = `${name}: ${reason}`;
    entry.toldAt = now;
  }

  // record takes each record that arrives.
  record(stream, now) {
    if (this.away !== null) this.away.replayed++;
    for (const entry of this.#waiting()) {
      if (entry.stream !== stream || entry.told === "" || (entry.kind !== "recreate" && entry.kind !== "told")) continue;
      this.#close(entry, { took: entry.toldAt - entry.at, replayed: 0, verdict: entry.told.split(":")[0] });
    }
  }

  // level says that the page has caught up.
  level(now) {
    if (this.away === null) return;
    const { since, verdict, replayed } = this.away;
    this.away = null;
    for (const entry of this.#waiting()) {
      if (entry.kind === "recreate" || entry.kind === "told") continue;
      this.#close(entry, { took: now - since, replayed, verdict });
    }
  }

  #waiting() {
    return this.entries.filter((entry) => entry.state === "open");
  }

  #close(entry, result) {
    entry.state = "done";
    entry.result = result;
  }
}

// outcome says in a sentence what became of an entry; sums are those of now.
export function outcome(entry, sums) {
  if (entry.state === "failed") return entry.told;
  const since = (name) => (entry.after ?? sums)[name] - entry.before[name];
  if (entry.state === "open") {
    if (entry.kind === "recreate") return entry.told === "" ? "waiting for the bridge to notice …" : `${entry.told}, waiting for the next record …`;
    return `away, ${events(sums.waiting)} waiting in the broker …`;
  }
  const { took, replayed } = entry.result;
  const parts = [];
  if (entry.kind === "recreate" || entry.kind === "told") parts.push(`told after ${seconds(took)}`);
  else parts.push(`level again after ${seconds(took)}`, `${events(replayed)} replayed`);
  if (since("announced") > 0) parts.push(`${events(since("announced"))} announced as gone`);
  parts.push(`${since("lost")} lost`, `${since("doubled")} doubled`);
  return parts.join(", ");
}

function seconds(ms) {
  return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
}

function events(n) {
  return n === 1 ? "1 event" : `${n.toLocaleString("en")} events`;
}
