// Rates counts events by name, second by second, and tells those that come most.

const SECONDS = 60;
const TOP = 5;

export class Rates {
  #seconds = []; // {second, counts: Map, sum}, the oldest first
  #totals = new Map(); // over all of them
  #colours = new Map(); // by name, while it is among the first
  #since = null; // the second of the first event: before it nothing was counted

  add(name, now) {
    const second = Math.floor(now / 1000);
    this.#since ??= second;
    let newest = this.#seconds.at(-1);
    if (newest === undefined || second > newest.second) {
      newest = { second, counts: new Map(), sum: 0 };
      this.#seconds.push(newest);
      this.#forget(second);
    }
    newest.counts.set(name, (newest.counts.get(name) ?? 0) + 1);
    newest.sum++;
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

  // top returns the names that came most, by one pass: they may be as many as events.
  #top() {
    const stands = ([a, n], [b, m]) => n > m || (n === m && a < b); // before the other
    const top = [];
    for (const entry of this.#totals) {
      if (top.length === TOP && !stands(entry, top[TOP - 1])) continue;
      let at = top.length;
      while (at > 0 && stands(entry, top[at - 1])) at--;
      top.splice(at, 0, entry);
      if (top.length > TOP) top.pop();
    }
    return top.map(([name]) => name);
  }

  // series returns lines for a Chart: the names that came most in the last
  // minute, and the rest in one. The second that is not over is left out.
  series(now) {
    const last = Math.floor(now / 1000) - 1;
    this.#forget(last + 1);
    const top = this.#top();
    for (const name of this.#colours.keys()) if (!top.includes(name)) this.#colours.delete(name);
    for (const name of top) {
      if (this.#colours.has(name)) continue;
      const taken = new Set(this.#colours.values());
      this.#colours.set(name, [1, 2, 3, 4, 5, 6].find((colour) => !taken.has(colour)));
    }
    const at = new Map(this.#seconds.map((one) => [one.second, one]));
    const lines = top.map((name) => ({ name, colour: this.#colours.get(name), points: [] }));
    const more = this.#totals.size - top.length;
    const rest = more > 0 ? { name: `${more} more`, rest: true, points: [] } : null;
    for (let second = Math.max(last - SECONDS, this.#since ?? last); second <= last; second++) {
      const counted = at.get(second);
      const time = (second + 1) * 1000;
      let others = counted?.sum ?? 0;
      for (const line of lines) {
        const n = counted?.counts.get(line.name) ?? 0;
        line.points.push([time, n]);
        others -= n;
      }
      rest?.points.push([time, others]);
    }
    return rest === null ? lines : [...lines, rest];
  }

  // perSecond is how many came a second, over the last ones that are over.
  perSecond(now, seconds = 5) {
    const last = Math.floor(now / 1000) - 1;
    let n = 0;
    for (const { second, sum } of this.#seconds) {
      if (second > last - seconds && second <= last) n += sum;
    }
    return n / seconds;
  }
}
