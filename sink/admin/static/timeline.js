// What the connection has been through: a list of what happened, the newest first,
// and a strip that shows the last minutes at a glance.

import { clock, element } from "./words.js";

const MAX_ENTRIES = 200;
const STRIP_SECONDS = 120;
const SVG = "http://www.w3.org/2000/svg";

// Entries have data-kind for programs: connecting, open, verdict, caught-up, gap,
// reset, closing, end, retry, problem, heartbeat, pause, resume, close.
export class Timeline {
  #segments = []; // {from, state}, each until the next begins
  #marks = []; // {at, kind}
  #heartbeats = null; // the entry on top, while it is one of heartbeats

  constructor({ list, strip }) {
    this.list = list;
    this.strip = strip;
  }

  // add tells something. tone is good, warn, bad or none; note stands behind the
  // text, dimmer.
  add(kind, text, { tone = "", note = "", at = Date.now() } = {}) {
    this.#heartbeats = null;
    const entry = element("li", "");
    entry.dataset.kind = kind;
    entry.dataset.tone = tone;
    entry.append(element("time", "", clock(at).slice(0, 8)), element("span", "what", text, " ", element("span", "note", note)));
    this.list.prepend(entry);
    while (this.list.children.length > MAX_ENTRIES) this.list.lastChild.remove();
    if (tone === "bad" || kind === "heartbeat") this.#mark(at, kind);
    return entry;
  }

  // heartbeat notes a comment of the server. Those in a row share an entry.
  heartbeat() {
    const at = Date.now();
    if (this.#heartbeats !== null) {
      this.#heartbeats.count++;
      this.#heartbeats.entry.querySelector(".note").textContent = `${this.#heartbeats.count} times`;
      this.#heartbeats.entry.querySelector("time").textContent = clock(at).slice(0, 8);
      this.#mark(at, "heartbeat");
      return;
    }
    const entry = this.add("heartbeat", "heartbeat", { at, note: "once" });
    this.#heartbeats = { entry, count: 1 };
  }

  // turn notes that the connection is in another state from now on.
  turn(state) {
    this.#segments.push({ from: Date.now(), state });
    this.draw();
  }

  clear() {
    this.list.replaceChildren();
    this.#heartbeats = null;
    this.#marks = [];
  }

  #mark(at, kind) {
    this.#marks.push({ at, kind });
    if (this.#marks.length > 1000) this.#marks.shift();
  }

  // draw moves the strip on. It is called once a second.
  draw() {
    const now = Date.now();
    const start = now - STRIP_SECONDS * 1000;
    while (this.#segments.length > 1 && this.#segments[1].from < start) this.#segments.shift();
    while (this.#marks.length > 0 && this.#marks[0].at < start) this.#marks.shift();
    const x = (at) => (((Math.max(at, start) - start) / (now - start)) * 1000).toFixed(1);
    const parts = this.#segments.map(({ from, state }, i) =>
      part("rect", { class: `segment ${state}`, x: x(from), y: 6, height: 8, width: Math.max(0, x(this.#segments[i + 1]?.from ?? now) - x(from)) }),
    );
    for (const { at, kind } of this.#marks) {
      parts.push(part("rect", { class: `mark ${kind}`, x: x(at), y: kind === "heartbeat" ? 8 : 0, height: kind === "heartbeat" ? 4 : 20, width: kind === "heartbeat" ? 2 : 3 }));
    }
    this.strip.replaceChildren(part("rect", { class: "track", x: 0, y: 6, height: 8, width: 1000 }), ...parts);
  }

  // losses are the instants of gaps, resets and problems, for the chart.
  get losses() {
    return this.#marks.filter(({ kind }) => kind === "gap" || kind === "reset").map(({ at }) => ({ time: at }));
  }
}

function part(kind, attributes) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
