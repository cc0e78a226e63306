// The rows that the page keeps: bounded, the newest ones, each with a number of
// its own (n) that counts from 0. And the view: those of them that the search
// lets through, in the same order.

// Queue is a list that loses its front cheaply.
class Queue {
  #items = [];
  #head = 0;

  get length() {
    return this.#items.length - this.#head;
  }

  at(i) {
    return this.#items[this.#head + i];
  }

  push(item) {
    this.#items.push(item);
  }

  shift() {
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    if (this.#head > 4096 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  pop() {
    return this.#items.pop();
  }

  clear() {
    this.#items = [];
    this.#head = 0;
  }
}

// Store holds at most maxRows rows, and of those with more than maxBytes of text
// only the newest ones; but never less than one row.
export class Store {
  constructor({ maxRows = 50_000, maxBytes = 64 << 20 } = {}) {
    Object.assign(this, { maxRows, maxBytes });
    this.rows = new Queue();
    this.next = 0; // number of the next row
    this.bytes = 0;
    this.dropped = 0; // rows that were pushed out
    this.filter = null;
    this.matches = new Queue(); // numbers, while there is a filter
    this.hidden = 0; // how many went from the front of the view, see View
    this.scanned = 0; // the filter has seen all rows below
  }

  get first() {
    return this.next - this.rows.length;
  }

  get(n) {
    return n >= this.first ? this.rows.at(n - this.first) : undefined;
  }

  add(row) {
    row.n = this.next++;
    this.rows.push(row);
    this.bytes += row.cost;
    if (this.filter && this.scanned === row.n) {
      this.scanned++;
      if (this.filter(row)) this.matches.push(row.n);
    }
    while (this.rows.length > this.maxRows || (this.bytes > this.maxBytes && this.rows.length > 1)) {
      this.bytes -= this.rows.shift().cost;
      this.dropped++;
      if (!this.filter) this.hidden++;
    }
    while (this.filter && this.matches.length > 0 && this.matches.at(0) < this.first) {
      this.matches.shift();
      this.hidden++;
    }
    this.scanned = Math.max(this.scanned, this.first);
  }

  // cut removes all rows behind n.
  cut(n) {
    while (this.rows.length > 0 && this.next - 1 > n) {
      this.bytes -= this.rows.pop().cost;
      this.next--;
    }
    while (this.matches.length > 0 && this.matches.at(this.matches.length - 1) > n) this.matches.pop();
    this.scanned = Math.min(this.scanned, this.next);
  }

  clear() {
    this.rows.clear();
    this.matches.clear();
    this.bytes = this.dropped = 0;
    this.hidden = 0;
    this.scanned = this.next;
  }

  // search shows only rows that the filter lets through; null shows all. The
  // caller calls scan until it returns true.
  search(filter) {
    this.filter = filter;
    this.matches.clear();
    this.hidden = 0;
    this.scanned = this.first;
  }

  // scan goes on for at most so many ms, and reports whether it is through.
  scan(ms) {
    if (!this.filter) return true;
    for (const end = performance.now() + ms; this.scanned < this.next; ) {
      for (let i = 0; i < 64 && this.scanned < this.next; i++, this.scanned++) {
        if (this.filter(this.get(this.scanned))) this.matches.push(this.scanned);
      }
      if (performance.now() > end) return this.scanned === this.next;
    }
    return true;
  }

  // The view. Places in it count from what it began with, so that a place stays
  // the same while others go from the front: from hidden up to hidden + length.

  get length() {
    return this.filter ? this.matches.length : this.rows.length;
  }

  at(place) {
    const i = place - this.hidden;
    if (i < 0 || i >= this.length) return undefined;
    return this.filter ? this.get(this.matches.at(i)) : this.rows.at(i);
  }

  // placeOf returns the place of row n, or of the next one behind it; hidden +
  // length if there is none.
  placeOf(n) {
    if (!this.filter) return this.hidden + Math.min(Math.max(n - this.first, 0), this.rows.length);
    let [low, high] = [0, this.matches.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.matches.at(middle) < n) low = middle + 1;
      else high = middle;
    }
    return this.hidden + low;
  }
}
