// Tests of what the page says about each outage: node --test does it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Journal, outcome } from "./static/journal.js";

const sums = (more = {}) => ({ published: 0, received: 0, waiting: 0, announced: 0, lost: 0, doubled: 0, ...more });

test("a kill is told from the loss of the connection to the last replayed event", () => {
  const j = new Journal();
  const entry = j.deed("kill", "kill -9 17", 0, sums());
  j.record("prices", 1); // was on its way
  j.gone(100, sums());
  assert.equal(outcome(entry, sums({ waiting: 27 })), "away, 27 events waiting in the broker …");
  j.connected("exact");
  for (let n = 0; n < 27; n++) j.record("prices", 1000);
  j.level(1500);
  j.record("prices", 1600); // live again
  assert.equal(outcome(entry, sums()), "level again after 1.4 s, 27 events replayed, 0 lost, 0 doubled");
  assert.equal(entry.result.verdict, "exact");
  assert.equal(j.entries.length, 1);
});

test("losses are those of the entry, until the next one begins", () => {
  const j = new Journal();
  const first = j.deed("cut", "cut", 0, sums({ lost: 3 }));
  j.gone(0, sums());
  j.connected("exact");
  j.level(1000);
  assert.match(outcome(first, sums({ lost: 4, doubled: 1 })), /1 lost, 1 doubled$/);
  const second = j.deed("cut", "cut", 2000, sums({ lost: 4, doubled: 1 }));
  j.gone(2000, sums());
  j.connected("exact");
  j.level(3000);
  assert.match(outcome(first, sums({ lost: 9 })), /1 lost, 1 doubled$/);
  assert.match(outcome(second, sums({ lost: 9, doubled: 1 })), /5 lost, 0 doubled$/);
});

test("a connection that broke by itself is told as well", () => {
  const j = new Journal();
  j.gone(0, sums());
  j.gone(10, sums()); // the browser tries in vain
  j.connected("exact");
  j.gone(20, sums()); // and is cut before it is level
  j.connected("exact");
  j.record("prices", 30);
  j.level(1000);
  assert.equal(j.entries.length, 1);
  assert.equal(outcome(j.entries[0], sums()), "level again after 1.0 s, 1 event replayed, 0 lost, 0 doubled");
});

test("what is done during an outage ends with it", () => {
  const j = new Journal();
  const down = j.deed("stop", "stop", 0, sums());
  j.gone(0, sums());
  const kill = j.deed("kill", "kill", 500, sums());
  const failed = j.deed("cut", "cut", 600, sums());
  j.fail(failed, "this tab has no connection at the moment");
  j.connected("exact");
  j.level(2000);
  assert.deepEqual([down.state, kill.state, failed.state], ["done", "done", "failed"]);
  assert.equal(outcome(failed, sums()), "this tab has no connection at the moment");
});

test("a recreated stream is done with the first record behind the reset", () => {
  const j = new Journal();
  const entry = j.deed("recreate", "recreate prices", 0, sums(), "prices");
  j.record("prices", 100); // of the old life
  assert.equal(entry.state, "open");
  j.told("reset", { stream: "prices", reason: "recreated" }, 700, sums());
  j.record("host", 800);
  assert.equal(entry.state, "open");
  j.record("prices", 900);
  assert.equal(entry.result.verdict, "reset");
  assert.equal(outcome(entry, sums({ announced: 2 })), "told after 0.7 s, 2 events announced as gone, 0 lost, 0 doubled");
});

test("a stream that was recreated during an outage is not done with the outage", () => {
  const j = new Journal();
  const down = j.deed("stop", "stop", 0, sums());
  j.gone(0, sums());
  const entry = j.deed("recreate", "recreate prices", 100, sums(), "prices");
  j.connected("exact");
  j.level(1000);
  assert.deepEqual([down.state, entry.state], ["done", "open"]);
});

test("a gap that nobody here made is told", () => {
  const j = new Journal();
  j.told("gap", { stream: "prices", reason: "retention" }, 0, sums());
  j.record("prices", 10);
  assert.equal(j.entries[0].result.verdict, "gap");
  assert.match(j.entries[0].title, /prices/);
});
