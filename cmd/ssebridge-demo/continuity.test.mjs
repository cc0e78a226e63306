// Tests of the page's own judgement, without a browser: node --test does it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Continuity, PATIENCE } from "./static/continuity.js";

// truth makes a statement: {"prices.ACME": [first, last], …}.
function truth(extents) {
  const streams = {};
  for (const [subject, [first, last]] of Object.entries(extents)) {
    const [stream] = subject.split(".");
    streams[stream] ??= { life: 1, subjects: {} };
    streams[stream].subjects[subject] = { first, last };
  }
  return { streams };
}

const A = "prices.A";
const B = "prices.B";

// see lets records of a subject arrive.
function see(c, subject, ...numbers) {
  for (const number of numbers) c.see(subject.split(".")[0], subject, number);
}

// check compares the sums, those that are not named being 0, and their balance.
function check(c, now, want) {
  const got = c.count(now);
  assert.deepEqual(got, { published: 0, received: 0, waiting: 0, announced: 0, lost: 0, doubled: 0, ...want });
  assert.equal(got.published, got.received + got.waiting + got.announced + got.lost, "the sums do not balance");
}

// begun is a page that is level since 0 and has got 1 to 3 of A.
function begun() {
  const c = new Continuity();
  see(c, A, 1, 2, 3);
  c.level(0);
  c.state(truth({ [A]: [1, 3] }), 1);
  return c;
}

test("what came is received, what is stated beyond is on its way", () => {
  const c = begun();
  c.state(truth({ [A]: [1, 5] }), 1000);
  check(c, 1000, { published: 5, received: 3, waiting: 2 });
  see(c, A, 4, 5, 6); // 6 came before its statement
  check(c, 1100, { published: 6, received: 6 });
});

test("a hole between two records is lost at once", () => {
  const c = begun();
  see(c, A, 6);
  check(c, 10, { published: 6, received: 4, lost: 2 });
});

test("a loss at the end is lost when patience is over", () => {
  const c = begun();
  c.state(truth({ [A]: [1, 5] }), 1000);
  check(c, 1000 + PATIENCE - 1, { published: 5, received: 3, waiting: 2 });
  check(c, 1000 + PATIENCE, { published: 5, received: 3, lost: 2 });
  see(c, A, 4, 5); // no, it was only slow
  check(c, 1000 + PATIENCE, { published: 5, received: 5 });
});

test("a subject that falls silent altogether is lost, others go on", () => {
  const c = begun();
  see(c, B, 1);
  for (let at = 1000; at <= 9000; at += 1000) {
    see(c, B, 1 + at / 1000);
    c.state(truth({ [A]: [1, 3 + at / 1000], [B]: [1, 1 + at / 1000] }), at);
  }
  check(c, 9000, { published: 12 + 10, received: 3 + 10, lost: 4, waiting: 5 });
});

test("a record that never came at all is due once the count has begun", () => {
  const c = new Continuity();
  c.state(truth({ [A]: [1, 7] }), 0); // before the page was level: not due
  c.level(10);
  c.state(truth({ [A]: [1, 8] }), 20);
  check(c, 20, {});
  c.state(truth({ [A]: [1, 9] }), 30);
  check(c, 30, { published: 1, waiting: 1 });
  check(c, 30 + PATIENCE, { published: 1, lost: 1 });
});

test("while the page is away nothing is lost, it waits", () => {
  const c = begun();
  c.away();
  c.state(truth({ [A]: [1, 500] }), 1000);
  check(c, 60_000, { published: 500, received: 3, waiting: 497 });
  c.level(60_000);
  check(c, 60_000 + PATIENCE - 1, { published: 500, received: 3, waiting: 497 });
  check(c, 60_000 + PATIENCE, { published: 500, received: 3, lost: 497 });
});

test("what comes twice is doubled, also after a resume", () => {
  const c = begun();
  see(c, A, 3);
  check(c, 10, { published: 3, received: 3, doubled: 1 });
  c.away();
  c.level(20);
  see(c, A, 2, 3, 4);
  check(c, 30, { published: 4, received: 4, doubled: 3 });
});

test("what comes too late stays lost, and its double is a double", () => {
  const c = begun();
  see(c, A, 6, 5);
  check(c, 10, { published: 6, received: 4, lost: 2 });
  see(c, A, 5);
  check(c, 10, { published: 6, received: 4, lost: 2, doubled: 1 });
});

test("a gap explains as many records as it names, and no more", () => {
  const c = begun();
  see(c, B, 1);
  c.told("gap", { stream: "prices", partition: 0, from: 10, to: 12, next: 13, reason: "retention" });
  see(c, A, 6); // 4 and 5
  check(c, 10, { published: 7, received: 5, announced: 2 });
  see(c, B, 4); // 2 and 3, of which one was told
  check(c, 10, { published: 10, received: 6, announced: 3, lost: 1 });
  see(c, A, 8); // 7 was not there when the gap was told
  check(c, 10, { published: 12, received: 7, announced: 3, lost: 2 });
});

test("a gap explains nothing behind the next record of a subject", () => {
  const c = begun();
  c.told("gap", { stream: "prices", from: null, to: null, reason: "limits" });
  see(c, A, 4, 6);
  check(c, 10, { published: 6, received: 5, lost: 1 });
});

test("a gap of one record explains the silence of one subject, not of two", () => {
  const c = begun();
  see(c, B, 1);
  c.told("gap", { stream: "prices", from: 9, to: 9, reason: "retention" });
  c.state(truth({ [A]: [1, 4], [B]: [1, 2] }), 1000);
  check(c, 1000 + PATIENCE, { published: 6, received: 4, waiting: 1, lost: 1 });
});

test("a gap of one stream explains nothing in another", () => {
  const c = begun();
  see(c, "host.cpu", 1);
  c.told("gap", { stream: "prices", from: 10, to: 12, reason: "retention" });
  see(c, "host.cpu", 3);
  check(c, 10, { published: 6, received: 5, lost: 1 });
});

test("an announced loss at the end waits for no record behind it", () => {
  const c = begun();
  c.told("gap", { stream: "prices", from: 4, to: 4, reason: "retention" });
  c.state(truth({ [A]: [1, 5] }), 1000);
  check(c, 1000 + PATIENCE, { published: 5, received: 3, waiting: 1, lost: 1 });
  see(c, A, 5);
  check(c, 1000 + PATIENCE, { published: 5, received: 4, announced: 1 });
});

test("a stream that is made again: what the old life kept is announced", () => {
  const c = begun();
  c.state(truth({ [A]: [6, 5] }), 1000); // 4 and 5 were published, then all was deleted
  check(c, 1000, { published: 5, received: 3, waiting: 2 });
  c.told("reset", { stream: "prices", partition: null, from: null, to: null, next: null, reason: "recreated" });
  check(c, 1000, { published: 5, received: 3, announced: 2 });
  see(c, A, 6);
  c.state(truth({ [A]: [6, 6] }), 1100);
  check(c, 1100 + PATIENCE, { published: 6, received: 4, announced: 2 });
});

test("a stream that is made again: what the new life has is due", () => {
  const c = begun();
  c.told("reset", { stream: "prices", reason: "recreated" });
  see(c, A, 8); // 4 and 5 died with the old life, 6 and 7 are in the new one
  check(c, 10, { published: 8, received: 4, announced: 4 }); // nothing states that yet
  c.state(truth({ [A]: [1, 3] }), 20); // neither does an older answer
  check(c, 20, { published: 8, received: 4, announced: 4 });
  c.state(truth({ [A]: [6, 8] }), 30);
  check(c, 30, { published: 8, received: 4, announced: 2, lost: 2 });
});

test("a stream that is made again in silence: all of it is lost", () => {
  const c = begun();
  c.state(truth({ [A]: [6, 5] }), 1000);
  check(c, 1000 + PATIENCE, { published: 5, received: 3, lost: 2 });
  see(c, A, 6);
  check(c, 1000 + PATIENCE, { published: 6, received: 4, lost: 2 });
});

test("a record of the old life that comes again is a double", () => {
  const c = begun();
  c.told("reset", { stream: "prices", reason: "recreated" });
  see(c, A, 3);
  check(c, 10, { published: 3, received: 3, doubled: 1 });
});

test("another history begins the count of its stream anew", () => {
  const c = begun();
  see(c, "host.cpu", 1);
  c.told("reset", { stream: "prices", reason: "rolled-back" });
  see(c, A, 2, 3);
  see(c, "host.cpu", 3);
  check(c, 10, { published: 3 + 2 + 3, received: 3 + 2 + 2, lost: 1 });
});
