// Chart draws a few lines over the last seconds: rates, prices, loads. It is
// SVG, so its colours are the style sheet's (look.css: .chart, .s1 to .s6, .s0)
// and change with the theme by themselves.
//
//   const chart = new Chart(element, { label: "Events per second", seconds: 60 });
//   chart.draw([{ name: "orders.eu", points: [[time, value], …] }, …]);
//
// Each draw gives everything anew: points in order of time, in ms as Date.now()
// has it; a value of null breaks the line. Draw as often as there is something
// new, once a second to four times: it costs some 0.2 ms for six lines of 60
// points and touches no layout but its own.
//
// What element gets: div.plot (its height is --chart-height) and ul.legend.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 38; // px, for the figures at the axis
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 16;
const COLOURS = 6;

// Options:
//   label    what is shown, for people who do not see it (required)
//   seconds  how much time is shown, 60 unless told
//   unit     stands behind each figure, as in "/s" or " %"
//   from, to what the axis holds at least; without from it begins at the lowest value
//   digits   behind the point in the legend, as many as it takes unless told
//   area     true fills below the lines
//   onPick   called with the name of a series whose legend entry was pressed
export class Chart {
  constructor(element, { label, seconds = 60, unit = "", from, to, digits, area = false, onPick } = {}) {
    Object.assign(this, { element, label, seconds, unit, from, to, digits, area, onPick });
    this.series = [];
    this.marks = [];
    this.now = Date.now();
    this.pointer = null; // x in px while something points at the plot
    element.classList.add("chart");
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.svg = svg("svg", { role: "img", "aria-label": label, focusable: "false" });
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    this.plot.append(this.svg);
    element.replaceChildren(this.plot, this.legend);
    this.width = this.plot.clientWidth;
    this.height = this.plot.clientHeight;
    new ResizeObserver(([entry]) => {
      this.width = entry.contentRect.width;
      this.height = entry.contentRect.height;
      requestAnimationFrame(() => this.#render()); // not now: the legend may change the size again
    }).observe(this.plot);
    this.plot.addEventListener("pointermove", (event) => this.#point(event.clientX - this.plot.getBoundingClientRect().left));
    this.plot.addEventListener("pointerleave", () => this.#point(null));
  }

  // draw shows these series: {name, points, colour, rest}. A series keeps the
  // colour of its place in the list unless it names one (1 to 6); rest draws it
  // in grey. marks are instants worth a vertical line: {time, tone}, the tone
  // "bad" unless told.
  draw(series, { now = Date.now(), marks = [] } = {}) {
    this.series = series.map((one, i) => ({ ...one, kind: one.rest ? "s0" : `s${one.colour ?? (i % COLOURS) + 1}` }));
    this.marks = marks;
    this.now = now;
    this.#render();
  }

  #point(x) {
    this.pointer = x;
    this.#render();
  }

  #render() {
    if (this.width < LEFT + RIGHT || this.height < TOP + BOTTOM) return;
    const start = this.now - this.seconds * 1000;
    const [low, high, step] = this.#scale(start);
    const inner = this.width - LEFT - RIGHT;
    const deep = this.height - TOP - BOTTOM;
    const x = (time) => LEFT + ((time - start) / (this.now - start)) * inner;
    const y = (value) => TOP + deep - ((value - low) / (high - low)) * deep;

    const parts = [];
    for (let value = low; value <= high + step / 2; value += step) {
      const at = Math.round(y(value)) + 0.5;
      parts.push(svg("path", { class: "grid", d: `M${LEFT} ${at}H${this.width - RIGHT}` }));
      parts.push(svg("text", { x: LEFT - 6, y: at + 3.5, "text-anchor": "end" }, short(round(value, step))));
    }
    parts.push(svg("text", { x: LEFT, y: this.height - 3 }, `${span(this.seconds)} ago`));
    parts.push(svg("text", { x: this.width - RIGHT, y: this.height - 3, "text-anchor": "end" }, "now"));
    for (const { time, tone = "bad" } of this.marks) {
      if (time >= start) parts.push(svg("path", { class: "event", "data-tone": tone, d: `M${x(time).toFixed(1)} ${TOP}V${TOP + deep}` }));
    }
    // The first series is the most important one: it is drawn last, above the others.
    for (const { points, kind } of this.series.toReversed()) {
      const line = path(points, start, x, y);
      if (line === "") continue;
      if (this.area) parts.push(svg("path", { class: `area ${kind}`, d: closed(line, TOP + deep) }));
      parts.push(svg("path", { class: `trace ${kind}`, d: line }));
    }
    let time = this.now;
    if (this.pointer !== null && this.pointer >= LEFT) {
      time = start + ((Math.min(this.pointer, this.width - RIGHT) - LEFT) / inner) * (this.now - start);
      const at = Math.round(x(time)) + 0.5;
      parts.push(svg("path", { class: "cross", d: `M${at} ${TOP}V${TOP + deep}` }));
    }
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.replaceChildren(...parts);
    this.#write(time);
  }

  // scale returns what the axis holds: from, to, and the step between its lines.
  #scale(start) {
    let low = this.from ?? Infinity;
    let high = this.to ?? -Infinity;
    for (const { points } of this.series) {
      for (const [time, value] of points) {
        if (time < start || value === null) continue;
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    if (low > high) [low, high] = [0, 1];
    if (low === high) [low, high] = this.from === low ? [low, low + 1] : [low - 0.5, high + 0.5];
    const rough = (high - low) / Math.max(1, Math.min(4, Math.floor((this.height - TOP - BOTTOM) / 26)));
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((n) => n * power >= rough * 0.999) * power;
    return [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step, step];
  }

  // write fills the legend with the values at that time. Its elements stay, so
  // that one which has the focus keeps it.
  #write(time) {
    while (this.legend.children.length > this.series.length) this.legend.lastChild.remove();
    const told = [];
    this.series.forEach((one, i) => {
      const entry = this.legend.children[i]?.firstChild ?? this.#entry();
      const value = at(one.points, time);
      const text = value === null ? "–" : figure(value, this.digits) + this.unit;
      const [swatch, name, figures] = entry.children;
      if (swatch.className !== one.kind) swatch.className = one.kind;
      if (name.textContent !== one.name) {
        name.textContent = one.name;
        entry.title = one.name;
      }
      if (figures.textContent !== text) figures.textContent = text;
      told.push(`${one.name} ${text}`);
    });
    if (this.pointer === null) this.svg.setAttribute("aria-label", told.length > 0 ? `${this.label}: ${told.join(", ")}` : `${this.label}: nothing yet`);
  }

  #entry() {
    const item = document.createElement("li");
    const entry = document.createElement(this.onPick ? "button" : "span");
    entry.className = "entry";
    if (this.onPick) {
      entry.type = "button";
      entry.addEventListener("click", () => this.onPick(entry.children[1].textContent));
    }
    const [swatch, name, value] = ["i", "span", "span"].map((kind) => document.createElement(kind));
    name.className = "name";
    value.className = "value";
    entry.append(swatch, name, value);
    item.append(entry);
    this.legend.append(item);
    return entry;
  }
}

function svg(kind, attributes, text) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// path joins the points from start on, and the one before, from which the line
// comes in.
function path(points, start, x, y) {
  let line = "";
  let pen = false;
  points.forEach(([time, value], i) => {
    if (time < start && (points[i + 1]?.[0] ?? -Infinity) < start) return;
    if (value === null) {
      pen = false;
      return;
    }
    const place = `${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
    line += pen ? `L${place}` : `M${place}L${place}`; // a point by itself is a dot, by its round ends
    pen = true;
  });
  return line;
}

// closed leads each piece of a line down to the floor, to be filled.
function closed(line, floor) {
  return line
    .split("M")
    .filter((piece) => piece !== "")
    .map((piece) => {
      const places = piece.split("L");
      const [first, last] = [places[0], places.at(-1)].map((place) => place.split(" ")[0]);
      return `M${first} ${floor}L${places.join("L")}L${last} ${floor}Z`;
    })
    .join("");
}

// at returns the value that held at that time, or null.
function at(points, time) {
  let value = null;
  for (const [when, what] of points) {
    if (when > time) break;
    value = what;
  }
  return value;
}

function round(value, step) {
  return Number((Math.round(value / step) * step).toPrecision(12));
}

// short writes a figure in at most five characters, as in 1.2k.
function short(value) {
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return Number((value / size).toPrecision(3)) + letter;
  }
  return String(Number(value.toPrecision(4)));
}

function figure(value, digits) {
  if (digits !== undefined) return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2 });
}

function span(seconds) {
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
}
