// Rates counts events by name, second by second, and tells those that come most.

const SECONDS = 60;
const TOP = 5;

export class Rates {
  #seconds = []; // {second, counts: Map}, the oldest first
  #totals = new Map(); // over all of them
  #colours = new Map(); // by name, while it is among the first
  #since = null; // the second of the first event: before it nothing was counted

  add(name, now) {
    const second = Math.floor(now / 1000);
    this.#since ??= second;
    let newest = this.#seconds.at(-1);
    if (newest === undefined || second > newest.second) {
      newest = { second, counts: new Map() };
      this.#seconds.push(newest);
      this.#forget(second);
    }
    newest.counts.set(name, (newest.counts.get(name) ?? 0) + 1);
    this.#totals.set(name, (this.#totals.get(name) ?? 0) + 1);
  }

  #forget(second) {
    while (this.#seconds.length > 0 && this.#seconds[0].second < second - SECONDS - 1) {
      for (const [name, n] of this.#seconds.shift().counts) {
        const left = this.#totals.get(name) - n;
        if (left > 0) this.#totals.set(name, left);
        else this.#totals.delete(name);
      }
    }
  }

  clear() {
    this.#seconds = [];
    this.#since = null;
    this.#totals.clear();
  }

  // series returns lines for a Chart: the names that came most in the last
  // minute, and the rest in one. The second that is not over is left out.
  series(now) {
    const last = Math.floor(now / 1000) - 1;
    this.#forget(last + 1);
    const names = [...this.#totals].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
    const top = names.slice(0, TOP).map(([name]) => name);
    for (const name of this.#colours.keys()) if (!top.includes(name)) this.#colours.delete(name);
    for (const name of top) {
      if (this.#colours.has(name)) continue;
      const taken = new Set(this.#colours.values());
      this.#colours.set(name, [1, 2, 3, 4, 5, 6].find((colour) => !taken.has(colour)));
    }
    const at = new Map(this.#seconds.map(({ second, counts }) => [second, counts]));
    const lines = top.map((name) => ({ name, colour: this.#colours.get(name), points: [] }));
    const rest = names.length > TOP ? { name: `${names.length - TOP} more`, rest: true, points: [] } : null;
    for (let second = Math.max(last - SECONDS, this.#since ?? last); second <= last; second++) {
      const counts = at.get(second);
      const time = (second + 1) * 1000;
      let others = 0;
      if (rest !== null && counts !== undefined) for (const n of counts.values()) others += n;
      for (const line of lines) {
        const n = counts?.get(line.name) ?? 0;
        line.points.push([time, n]);
        others -= n;
      }
      rest?.points.push([time, Math.max(0, others)]);
    }
    return rest === null ? lines : [...lines, rest];
  }

  // perSecond is how many came a second, over the last ones that are over.
  perSecond(now, seconds = 5) {
    const last = Math.floor(now / 1000) - 1;
    let n = 0;
    for (const { second, counts } of this.#seconds) {
      if (second > last - seconds && second <= last) for (const one of counts.values()) n += one;
    }
    return n / seconds;
  }
}
