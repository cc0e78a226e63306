// Tests of the inspector's modules that need no browser.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.location = new URL("http://bridge.example:8481/inspector/");

const { faultOf, offersFor } = await import("./completion.js");
const { complete, detailOf, makeRow, RowEvent } = await import("./event.js");
const { members } = await import("./json.js");
const { asCurl, asEventSource, eventsURL, pageSearch, readable, readQuery, searchFor, withoutSecrets } = await import("./query.js");
const { Rates } = await import("./rates.js");
const { Parser } = await import("./sse.js");
const { Store } = await import("./store.js");
const { size, span } = await import("./words.js");

// A page that is left open for a week must not grow for a week, and what the
// search shows is exactly what a plain list would.
test("the store is a list of the newest rows, searched", () => {
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 50; round++) {
    const store = new Store({ maxRows: 1 + random(40), maxBytes: 2000 });
    let all = [];
    let filter = null;
    let shown = 0; // rows that went from the front of the view
    for (let step = 0; step < 300; step++) {
      switch (random(12)) {
        case 0:
          filter = random(2) === 0 ? null : (row) => row.value % 3 === 0;
          store.search(filter);
          while (!store.scan(0));
          break;
        case 1: {
          if (all.length === 0 || random(3) > 0) break;
          const n = all[random(all.length)].n;
          store.cut(n);
          all = all.filter((row) => row.n <= n);
          break;
        }
        case 2:
          if (random(10) === 0) {
            store.clear();
            all = [];
          }
          break;
        default: {
          const row = { value: random(100), cost: 20 + random(100) };
          store.add(row);
          all.push(row);
          while (all.length > store.maxRows || (all.length > 1 && all.reduce((sum, { cost }) => sum + cost, 0) > store.maxBytes)) all.shift();
        }
      }
      const want = filter === null ? all : all.filter(filter);
      assert.equal(store.length, want.length);
      assert.ok(store.hidden >= 0);
      shown = store.hidden;
      want.forEach((row, i) => {
        assert.equal(store.at(shown + i), row);
        assert.equal(store.placeOf(row.n), shown + i);
        assert.equal(store.get(row.n), row);
      });
      assert.equal(store.at(shown + want.length), undefined);
      assert.equal(store.at(shown - 1), undefined);
    }
  }
});

test("an envelope is read without being parsed, and its numbers stay as written", () => {
  const data = '{"stream":"orders","subject":"a.\\"b\\u0041","partition":3,"offset":9007199254740993,"time":"2026-01-31T12:00:00.123456789Z","key":"k","headers":{"h":["1","2"],"encoding":["x"]},"encoding":"json","data":{"n":12345678901234567890,"f":7.50,"s":"}{"}}';
  const row = complete(makeRow({ name: "message", data, id: "", bytes: 1, at: Date.UTC(2026, 0, 31, 12, 0, 1) }, ""), () => false);
  assert.equal(row.stream, "orders");
  assert.equal(row.subject, 'a."bA');
  assert.equal(row.partition, "3");
  assert.equal(row.offset, "9007199254740993");
  assert.equal(row.at - row.time, 877);
  assert.equal(row.preview, '{"n":12345678901234567890,"f":7.50,"s":"}{"}');
  const detail = detailOf(row);
  assert.equal(detail.payload, row.preview);
  assert.deepEqual([...detail.headers], [["h", ["1", "2"]], ["encoding", ["x"]]]);
});

test("text and deletions in envelopes are told as such", () => {
  const head = '{"stream":"s","subject":"x","partition":0,"offset":1,"time":null,"key":null,"headers":{}';
  const text = makeRow({ name: "message", data: `${head},"encoding":"text","data":"a\\nb"}`, id: "", bytes: 1, at: 0 }, "");
  assert.deepEqual([detailOf(text).payload, detailOf(text).encoding, text.time], ["a\nb", "text", null]);
  const gone = detailOf(makeRow({ name: "delete", data: `${head},"deleted":true}`, id: "", bytes: 1, at: 0 }, ""));
  assert.equal(gone.fields.find(([name]) => name === "deleted")[1], "true");
});

test("without an envelope the id tells what a row is", () => {
  const [before, id] = ["1~orders.k6rwn1.32a=5-2p.vk54", "1~orders.k6rwn1.32a=5-2p=5-jr=4.uer9"];
  const row = complete(makeRow({ name: "message", data: "x", id, bytes: 1, at: 0 }, before), () => true);
  assert.deepEqual([row.stream, row.partition, row.offset, row.time], ["orders", "2", "710", 4]);
});

// Rows that nobody sees cost no more than to be kept.
test("programs are told of rows, which are completed when they ask", () => {
  const target = new EventTarget();
  const row = makeRow({ name: "message", data: "x", id: "1~orders.k6rwn1.32a=5-2p=5-jr=4.uer9", bytes: 1, at: 0 }, "1~orders.k6rwn1.32a=5-2p.vk54");
  const event = () => new RowEvent(row, () => true);
  target.dispatchEvent(event());
  assert.deepEqual([row.preview, row.offset], [null, null]);
  let told;
  target.addEventListener("inspector-event", ({ detail: { data, partition, offset } }) => (told = [data, partition, offset]));
  target.dispatchEvent(event());
  assert.deepEqual(told, ["x", "2", "710"]);
});

test("foreign events stay what they are", () => {
  const row = complete(makeRow({ name: "tick", data: '{"stream":1}', id: "17", bytes: 1, at: 0 }, "16"), () => true);
  assert.deepEqual([row.stream, row.subject, row.offset, row.preview, row.control], ["", "", null, '{"stream":1}', false]);
  assert.equal(detailOf(row).payload, '{"stream":1}');
  for (const data of ["", "null", "[]", "x"]) {
    for (const name of ["gap", "reset", "connected", "closing", "delete", "message"]) complete(makeRow({ name, data, id: "", bytes: 1, at: 0 }, ""), () => true);
  }
});

test("members are cut out of the text", () => {
  assert.deepEqual([...members(' { "a" : [1, {"b":"}"}] ,"c":1e400, "a":"2" } ')], [["a", '"2"'], ["c", "1e400"]]);
  assert.deepEqual([...members("{}")], []);
  for (const text of ["[]", "1", "{", '{"a":}', ""]) assert.equal(members(text), null);
});

test("addresses of the page and requests say the same", () => {
  const query = { streams: ["orders", "prices"], subjects: ["a.>", "b.%2A.c"], start: "15m", format: "data", url: "", search: "x y", from: "1~a.0.0.qej5" };
  assert.deepEqual(readQuery(pageSearch(query)), query);
  assert.deepEqual(pageSearch(readQuery("")), "");
  assert.equal(eventsURL(query, "/events").href, "http://bridge.example:8481/events?stream=orders&stream=prices&subject=a.%3E&subject=b.%252A.c&start=15m&format=data");
  assert.throws(() => eventsURL({ ...query, url: "https://evil.example/events" }, "/events"), /only addresses that begin with http:\/\/bridge\.example:8481/);
  assert.throws(() => eventsURL({ ...query, url: "//evil.example/events" }, "/events"));
});

test("no secret leaves the page", () => {
  const secret = "s3cr3t";
  for (const name of ["token", "access_token", "ticket", "jwt", "api_key", "apikey", "api-key", "key", "auth", "authorization", "password", "X-Amz-Signature", "sig", "session_id", "code", "Token"]) {
    const query = { ...readQuery(""), url: `/events?${name}=${secret}&subject=a` };
    const url = eventsURL(query, "/events");
    assert.match(url.href, /s3cr3t/); // the request itself needs it
    for (const text of [pageSearch(query), asCurl(url, ""), asEventSource(url, "", []), withoutSecrets(query.url)]) {
      assert.ok(!text.includes(secret), `${name}: ${text}`);
      assert.match(text, /subject(=|%3D)a/);
    }
  }
  assert.ok(!withoutSecrets(`http://user:${secret}@bridge.example:8481/events#${secret}`).includes(secret));
});

test("what is copied survives a shell and a program", () => {
  const url = new URL("http://bridge.example:8481/events?subject=it's");
  assert.equal(asCurl(url, "1~a.0.0.qej5"), "curl -gN -H 'Last-Event-ID: 1~a.0.0.qej5' 'http://bridge.example:8481/events?subject=it'\\''s'".replace("it'\\''s", "it%27s"));
  assert.equal(asCurl(url, "a'; rm -rf / #"), "curl -gN -H 'Last-Event-ID: a'\\''; rm -rf / #' 'http://bridge.example:8481/events?subject=it%27s'");
  assert.equal(asCurl(new URL("http://bridge.example:8481/events"), "", true), `curl -gN -H "Authorization: Bearer $SSEBRIDGE_ADMIN_TOKEN" 'http://bridge.example:8481/events'`);
  assert.match(asEventSource(url, "1~a", ['x"y', "message", "gap"]), /for \(const name of \["message","gap","x\\"y"\]\)/);
});

// What somebody types has percent signs where no code follows.
test("an address is shown decoded, or as it is", () => {
  assert.equal(readable(new URL("http://bridge.example/events?subject=a.%3E&x=%C3%A9")), "/events?subject=a.>&x=é");
  for (const path of ["/events?x=100%", "/events?x=%ff", "/%", "/events?subject=a.%3E&x=%E2%82"]) {
    assert.equal(readable(new URL(path, "http://bridge.example")), path);
  }
});

// The bridge sends events of up to 8 MiB. Time that grows with the square of that
// holds the page for a minute, and patterns run out of stack. The bounds are ten
// times what it takes.
test("an event of 8 MiB is read and opened without holding the page", () => {
  const head = '{"stream":"s","subject":"x","partition":0,"offset":1,"time":null,"key":null,"headers":{}';
  const spent = (since) => {
    const { user, system } = process.cpuUsage(since);
    return (user + system) / 1000;
  };
  for (const [unit, character] of [["A", "A"], ["\\n", "\n"], ['\\"', '"'], ["\\\\", "\\"]]) {
    const payload = unit.repeat((8 << 20) / unit.length);
    const bytes = new TextEncoder().encode(`data: ${head},"encoding":"text","data":"${payload}"}\n\n`);
    const events = [];
    const parser = new Parser({ onEvent: (event) => events.push(event) });
    const began = process.cpuUsage();
    for (let from = 0; from < bytes.length; from += 16 << 10) parser.feed(bytes.subarray(from, from + (16 << 10)));
    assert.equal(events.length, 1);
    assert.ok(spent(began) < 1000, `${unit}: parsing took ${spent(began)} ms`);
    const read = process.cpuUsage();
    assert.ok(detailOf(makeRow({ ...events[0], at: 0 }, "")).payload === character.repeat((8 << 20) / unit.length), unit); // equal would print it
    assert.ok(spent(read) < 3000, `${unit}: opening took ${spent(read)} ms`);
  }
  const long = makeRow({ name: "message", data: `${head.replace('"x"', `"${"y".repeat(8 << 20)}"`)},"encoding":"json","data":{}}`, id: "", bytes: 1, at: 0 }, "");
  assert.equal(long.subject.length, 8 << 20);
});

test("a search wants all words, and none that has a minus", () => {
  const row = (data) => ({ data, subject: "orders.EU", name: "message", stream: "orders", id: "1~x", control: false, preview: null });
  const found = (text, data) => searchFor(text).filter?.(row(data)) ?? true;
  assert.ok(found("", "a"));
  assert.ok(found("eu FOO", "the foo"));
  assert.ok(!found("eu bar", "the foo"));
  assert.ok(!found("eu -foo", "the foo"));
  assert.ok(found("-bar", "the foo"));
  assert.ok(found("a.c+(", "A.C+("));
  assert.ok(!found("a.c", "abc"));
});

test("offers go from the whole to the single subject", () => {
  const streams = [{ name: "orders", subjects: ["orders.*.*"], recent: ["orders.eu.1", "orders.eu.2"] }, { name: "waiting", subjects: null, recent: [] }];
  assert.deepEqual(
    offersFor(streams, [["orders.us.9", "orders"]]).map(({ text }) => text),
    [">", "orders.*.*", "orders.>", "orders.eu.>", "orders.eu.1", "orders.eu.2", "orders.us.9"],
  );
  for (const [pattern, fault] of [["a.>", ""], ["*", ""], ["a..b", "empty"], ["a.>.b", "last"], ["a.b*", "whole tokens"]]) {
    assert.match(faultOf(pattern), new RegExp(fault === "" ? "^$" : fault));
  }
});

test("rates count whole seconds, and what comes most", () => {
  const rates = new Rates();
  const at = 1_000_000_000;
  for (let name = 0; name < 9; name++) for (let i = 0; i <= name; i++) rates.add(`s${name}`, at + i);
  rates.add("s8", at + 1000);
  const series = rates.series(at + 1500);
  assert.deepEqual(series.map(({ name, points }) => [name, points]), [
    ["s8", [[at + 1000, 9]]], ["s7", [[at + 1000, 8]]], ["s6", [[at + 1000, 7]]], ["s5", [[at + 1000, 6]]], ["s4", [[at + 1000, 5]]], ["4 more", [[at + 1000, 10]]],
  ]);
  assert.equal(rates.perSecond(at + 1500, 1), 45);
  assert.equal(rates.series(at + 100_000).length, 0);
});

// Subjects such as orders.{id} are as many as records.
test("rates tell what comes most among very many", () => {
  const rates = new Rates();
  let seed = 1;
  for (let second = 0; second < 60; second++) {
    for (let i = 0; i < 1000; i++) rates.add(`orders.${(seed = (seed * 48271) % 2147483647)}`, second * 1000);
    for (let i = 0; i < 7; i++) for (let n = 0; n <= i; n++) rates.add(`top.${i}`, second * 1000);
  }
  const began = process.cpuUsage();
  let series;
  for (let i = 0; i < 10; i++) series = rates.series(60_000);
  const { user, system } = process.cpuUsage(began);
  assert.ok(user + system < 300_000, `${(user + system) / 10_000} ms each second`);
  assert.deepEqual(series.map(({ name }) => name), ["top.6", "top.5", "top.4", "top.3", "top.2", "60002 more"]);
  assert.deepEqual(series.at(-1).points[0], [1000, 1003]);
});

test("names that stand as high come in the order of the alphabet", () => {
  const rates = new Rates();
  for (const name of ["g", "c", "a", "f", "b", "e", "d"]) rates.add(name, 0);
  assert.deepEqual(rates.series(1000).map(({ name }) => name), ["a", "b", "c", "d", "e", "2 more"]);
});

test("times and sizes stay short", () => {
  for (const [ms, text] of [[0, "0 ms"], [999, "999 ms"], [1500, "1.50 s"], [99_000, "99.0 s"], [600_000, "10 min"], [8e6, "2 h"], [5e8, "6 d"], [-5, "-5 ms"]]) assert.equal(span(ms), text);
  for (const [bytes, text] of [[0, "0 B"], [999, "999 B"], [1500, "1.5 kB"], [25_000, "25 kB"], [3e6, "3.0 MB"], [2e9, "2.0 GB"]]) assert.equal(size(bytes), text);
});
