// Continuity holds what arrives against what the publisher states. Every record
// carries its running number on its subject, and the publisher states past the
// bridge which numbers it has put into the broker. So each number is one of
//
//   received    it came, once
//   waiting     it is in the broker, and may still be on its way
//   announced   it is gone, and a gap or a reset said so
//   lost        it is gone and nobody said so
//
// and their sum is published. What came a second time is doubled.
//
//   number  95   96 97      98   99         100 101
//           came announced  came lost       on their way: waiting, or lost
//                by a gap        (100 came) if they do not come in time
//
// It is pure: times are handed in, in ms.

// PATIENCE is how long a record may be on its way to a page that is connected
// and level before it counts as lost.
export const PATIENCE = 5000;

export class Continuity {
  constructor() {
    this.subjects = new Map(); // by name: {stream, first, next, stated, gone}
    this.tellings = []; // gaps and resets whose holes may still come to light
    this.unjudged = []; // holes that a reset explains, as far as the truth agrees
    this.begun = false;
    this.levelSince = null;
    this.past = 0; // published, of subjects that were forgotten
    this.received = 0;
    this.doubled = 0;
    this.announced = 0;
    this.lost = 0;
  }

  // level says that the page has caught up; away, that it is not connected or
  // catches up.
  level(now) {
    this.levelSince ??= now;
  }

  away() {
    this.levelSince = null;
  }

  // see takes a record that has arrived.
  see(stream, subject, number) {
    const one = this.subjects.get(subject);
    if (one === undefined) {
      this.subjects.set(subject, { stream, first: number, next: number + 1, stated: [], gone: [] });
      this.received++;
      return;
    }
    if (number < one.next) {
      // A record that comes after a later one of its subject came too late, and
      // what was counted stays; but it has not come twice.
      if (number >= one.first && !takeOut(one.gone, number)) this.doubled++;
      return;
    }
    if (number > one.next) this.#hole(subject, one, one.next, number - 1);
    for (const telling of this.tellings) telling.open.delete(subject);
    this.tellings = this.tellings.filter((telling) => telling.open.size > 0);
    one.next = number + 1;
    this.received++;
  }

  // told takes a gap or a reset as the bridge tells it. It explains holes that
  // the next record of each subject shows, and no others: a gap so many records,
  // a reset all up to the first of the stream's new life.
  told(name, { stream, from, to, reason }) {
    const streams = stream == null ? new Set([...this.subjects.values()].map((one) => one.stream)) : [stream];
    for (const each of streams) {
      if (name === "reset" && reason !== "recreated") {
        this.#forget(each); // another history: the same numbers may mean other records
        continue;
      }
      const open = new Set();
      for (const [subject, one] of this.subjects) if (one.stream === each) open.add(subject);
      const budget = name === "reset" || from == null || to == null ? Infinity : Math.max(0, to - from + 1);
      if (open.size > 0) this.tellings.push({ reset: name === "reset", stream: each, open, budget });
    }
  }

  // state takes what the publisher states, in an answer that was asked for at
  // that time. The first one that was asked for while the page was level begins
  // the count for subjects of which nothing has come: what is published later is
  // due.
  state({ streams }, asked) {
    if (this.levelSince !== null && asked >= this.levelSince) this.begun = true;
    for (const [stream, { subjects }] of Object.entries(streams)) {
      for (const [subject, { first, last }] of Object.entries(subjects)) {
        let one = this.subjects.get(subject);
        if (one === undefined) {
          if (!this.begun) continue;
          one = { stream, first: last + 1, next: last + 1, stated: [], gone: [] };
          this.subjects.set(subject, one);
        }
        one.life = first;
        one.stated.push({ at: asked, last });
        // Kept are those of the last moments, and the one before them.
        while (one.stated.length > 1 && one.stated[1].at <= asked - PATIENCE) one.stated.shift();
      }
    }
    this.unjudged = this.unjudged.filter((hole) => !this.#judge(hole));
  }

  // count returns the sums at that time.
  count(now) {
    const sums = { published: this.past, received: this.received, waiting: 0, announced: this.announced, lost: this.lost, doubled: this.doubled };
    for (const hole of this.unjudged) sums.announced += hole.to - hole.from + 1;
    const budgets = new Map(this.tellings.map((telling) => [telling, telling.budget]));
    for (const [subject, one] of this.subjects) {
      const last = Math.max(one.next - 1, one.stated.at(-1)?.last ?? 0);
      sums.published += last - one.first + 1;
      let due = one.next; // the first number that is still to come
      const telling = this.tellings.find((each) => each.open.has(subject));
      if (telling?.reset && one.life > due) {
        due = Math.min(one.life, last + 1);
        sums.announced += due - one.next;
      }
      let overdue = Math.max(0, this.#late(one, now) - due + 1);
      if (overdue > 0 && telling !== undefined && !telling.reset) {
        const excused = Math.min(overdue, budgets.get(telling));
        budgets.set(telling, budgets.get(telling) - excused);
        overdue -= excused;
      }
      sums.lost += overdue;
      sums.waiting += last - due + 1 - overdue;
    }
    return sums;
  }

  // late returns the last number that should have come by now.
  #late(one, now) {
    if (this.levelSince === null || now - this.levelSince < PATIENCE) return 0;
    return one.stated.findLast(({ at }) => at <= now - PATIENCE)?.last ?? 0;
  }

  #hole(subject, one, from, to) {
    one.gone.push({ from, to });
    let missing = to - from + 1;
    for (const telling of this.tellings) {
      if (!telling.open.has(subject)) continue;
      if (telling.reset) {
        const hole = { subject, from: to - missing + 1, to, closed: to + 1 };
        if (!this.#judge(hole)) this.unjudged.push(hole);
        return;
      }
      const told = Math.min(missing, telling.budget);
      telling.budget -= told;
      this.announced += told;
      missing -= told;
    }
    this.lost += missing;
  }

  // judge divides a hole that a reset explains: what the stream's new life does
  // not have was announced, what it has is lost. That takes a statement that
  // knows of the record behind the hole, and so of the new life; it returns
  // false without one.
  #judge({ subject, from, to, closed }) {
    const one = this.subjects.get(subject);
    if (one === undefined) return true;
    if ((one.stated.at(-1)?.last ?? 0) < closed) return false;
    const gone = Math.max(0, Math.min(to + 1, one.life) - from);
    this.announced += gone;
    this.lost += to - from + 1 - gone;
    return true;
  }

  #forget(stream) {
    for (const hole of this.unjudged) {
      if (this.subjects.get(hole.subject)?.stream === stream) this.announced += hole.to - hole.from + 1;
    }
    this.unjudged = this.unjudged.filter((hole) => this.subjects.get(hole.subject)?.stream !== stream);
    this.tellings = this.tellings.filter((telling) => telling.stream !== stream);
    for (const [subject, one] of this.subjects) {
      if (one.stream !== stream) continue;
      this.past += one.next - one.first;
      this.subjects.delete(subject);
    }
  }
}

// takeOut removes a number from a list of ranges, and reports whether it was in
// one.
function takeOut(ranges, number) {
  const i = ranges.findIndex(({ from, to }) => number >= from && number <= to);
  if (i < 0) return false;
  const { from, to } = ranges[i];
  ranges.splice(i, 1, ...[{ from, to: number - 1 }, { from: number + 1, to }].filter((range) => range.from <= range.to));
  return true;
}
