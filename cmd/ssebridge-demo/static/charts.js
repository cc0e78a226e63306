// The charts of the page: the events' own data, and how they arrive.

import { Chart } from "/look/chart.js";

const SECONDS = 60;
const KILO = 1e3;
const MEGA = 1e6;

// TILES are the charts of records, by subject. Of several sets of lines the first
// that a record has is drawn: not every machine tells the same. A line is the
// member of the record, its name, and what to divide it by.
const TILES = [
  ...["ACME", "GLOBEX", "HOOLI", "INITECH", "UMBRELLA"].map((symbol) => ({
    group: "prices", subject: `prices.${symbol}`, label: `Price of ${symbol}`, digits: 2, sets: [[["price", symbol, 1]]],
  })),
  { group: "host", subject: "host.cpu", label: "CPU", from: 0, sets: [[["busy_percent", "cpu busy %", 1]], [["goroutines", "goroutines", 1]]] },
  { group: "host", subject: "host.memory", label: "Memory", from: 0, sets: [[["used_percent", "memory used %", 1]], [["live_heap_bytes", "heap MB", MEGA]]] },
  { group: "host", subject: "host.load", label: "Load", from: 0, digits: 2, sets: [[["load_1m", "load 1 min", 1]]] },
  { group: "host", subject: "host.disk", label: "Disk, MB a second", from: 0, sets: [[["written_bytes_per_second", "disk MB/s", MEGA], ["read_bytes_per_second", "read", MEGA]]] },
  { group: "host", subject: "host.network", label: "Network, kB a second", from: 0, sets: [[["received_bytes_per_second", "net kB/s", KILO], ["sent_bytes_per_second", "out", KILO]]] },
];

// Line keeps the points of the last seconds.
class Line {
  constructor() {
    this.points = [];
  }

  add(time, value) {
    if (!Number.isFinite(time)) return;
    this.points.push([time, value]);
    const oldest = time - (SECONDS + 5) * 1000;
    let old = 0;
    while (old < this.points.length && this.points[old][0] < oldest) old++;
    if (old > 60) this.points.splice(0, old); // not one by one
  }
}

// number reads a number that may be kept as it was written, null if it is none.
function number(value) {
  const n = typeof value === "number" ? value : Number.parseFloat(value?.rawJSON);
  return Number.isFinite(n) ? n : null;
}

export class Charts {
  // places are the elements of the groups, and of the flow.
  constructor(places) {
    this.marks = [];
    this.tiles = new Map();
    TILES.forEach((tile, i) => {
      const element = document.createElement("div");
      element.className = "card tile";
      places[tile.group].append(element);
      const chart = new Chart(element, { label: `${tile.label}, the last minute`, seconds: SECONDS, from: tile.from, digits: tile.digits, area: true });
      this.tiles.set(tile.subject, { ...tile, chart, colour: (i % 5) + 1, element, lines: null });
    });
    this.flow = new Chart(places.flow, { label: "Events of the last minute", seconds: SECONDS, from: 0, to: 40, digits: 0, area: true });
    this.arrived = new Line();
    this.held = new Line();
    this.second = 0;
    this.inSecond = 0;
  }

  // record takes what a record says, at the time it was made.
  record(subject, time, payload) {
    const tile = this.tiles.get(subject);
    if (tile === undefined || payload === null || typeof payload !== "object") return;
    tile.lines ??= tile.sets.find((set) => set.every(([member]) => number(payload[member]) !== null))
      ?.map(([member, name, by]) => ({ member, name, by, line: new Line() })) ?? null;
    for (const { member, by, line } of tile.lines ?? []) {
      const value = number(payload[member]);
      if (value !== null) line.add(time, value / by);
    }
  }

  // arrive counts an event that has come by now.
  arrive(now) {
    this.#turn(now);
    this.inSecond++;
  }

  // hold says how many are waiting.
  hold(now, waiting) {
    this.held.add(now, waiting);
  }

  // mark draws a vertical line through everything.
  mark(now, tone) {
    this.marks = [...this.marks.filter(({ time }) => time > now - SECONDS * 1000), { time: now, tone }];
  }

  // rate returns how many arrived in the last whole second.
  get rate() {
    return this.arrived.points.at(-1)?.[1] ?? 0;
  }

  draw(now) {
    this.#turn(now);
    const marks = this.marks;
    for (const tile of this.tiles.values()) {
      const series = (tile.lines ?? []).map(({ name, line }, i) => ({ name, points: line.points, ...(i === 0 ? { colour: tile.colour } : { rest: true }) }));
      tile.chart.draw(series, { now, marks });
    }
    this.flow.draw([
      { name: "received each second", points: this.arrived.points, colour: 1 },
      { name: "waiting in the broker", points: this.held.points, colour: 3 },
    ], { now, marks });
  }

  // hideEmpty takes away the charts that this machine has no records for.
  hideEmpty() {
    for (const tile of this.tiles.values()) tile.element.hidden = tile.lines === null;
  }

  // turn closes the seconds that are over.
  #turn(now) {
    const second = Math.floor(now / 1000);
    if (this.second === 0) this.second = second;
    if (second - this.second > SECONDS) this.second = second - SECONDS; // the machine was asleep
    for (; this.second < second; this.second++) {
      this.arrived.add((this.second + 1) * 1000, this.inSecond);
      this.inSecond = 0;
    }
  }
}
