// Drives one browser for the tests beside it. Commands come in on standard input, a line
// of JSON each: {"do": "...", ...}; each is answered by one line on standard
// output: {"value": ...} or {"error": "..."}. The browser ends with the input.
//
// usage: node browser.mjs chrome|firefox PATH-OF-THE-BROWSER

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const [browserName, executablePath] = process.argv.slice(2);

const browser = await puppeteer.launch({
  browser: browserName, // puppeteer drives firefox over WebDriver BiDi
  executablePath,
  headless: true,
  // Containers run as root, where Chromium's sandbox cannot. The pages are ours.
  args: browserName === "chrome" ? ["--no-sandbox", "--disable-gpu"] : [],
});
let page; // the one page that is open

// newPage opens an empty page in place of the one before.
async function newPage() {
  const old = page;
  page = await browser.newPage();
  await old?.close();
  await page.setViewport({ width: 1280, height: 800 });
  await page.evaluateOnNewDocument(() => {
    // Rows leave the page again when there are many, so each is noted as it comes.
    window.seen = [];
    new MutationObserver((changes) => {
      for (const change of changes) {
        for (const node of [...change.addedNodes].reverse()) { // the newest stands first
          if (node.nodeName !== "LI" || !node.querySelector(".payload")) continue;
          const { name, id, subject, seq } = node.dataset;
          window.seen.push({ name, id, subject, seq: Number(seq ?? 0), text: node.querySelector(".payload").textContent });
        }
      }
    }).observe(document, { childList: true, subtree: true });
    // The inspector has few rows at a time and tells each event instead.
    window.told = [];
    document.addEventListener("inspector-event", ({ detail: { name, id, stream, subject, partition, offset, data } }) => {
      window.told.push({ name, id, stream, subject, partition, offset: Number(offset ?? -1), text: data });
    });
    // What tests spoil to see whether the page notices: spoil decides for each
    // record how often the page gets it.
    window.spoil = () => 1;
    const listen = EventSource.prototype.addEventListener;
    EventSource.prototype.addEventListener = function (type, listener, ...options) {
      if (type !== "message") return listen.call(this, type, listener, ...options);
      return listen.call(this, type, (event) => {
        for (let times = window.spoil(event.data); times > 0; times--) listener(event);
      }, ...options);
    };
    // Errors of the page's own code, not those of the network.
    window.problems = [];
    window.addEventListener("error", (event) => window.problems.push(event.message));
    window.addEventListener("unhandledrejection", (event) => window.problems.push(String(event.reason)));
  });
}

const commands = {
  version: () => browser.version(),
  page: newPage,
  open: ({ url }) => page.goto(url, { waitUntil: "domcontentloaded" }).then(() => null),
  evaluate: ({ script }) => page.evaluate(script),
  // until waits for a condition of the page, which other commands can bring about
  // only afterwards: one command is done at a time.
  until: async ({ script, seconds }) => {
    for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; ) {
      try {
        if (await page.evaluate(script)) return null;
      } catch (error) {
        if (!/context was destroyed/.test(String(error))) throw error; // else the page is loaded again
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`not within ${seconds} s: ${script}`);
  },
  click: ({ selector }) => page.click(selector).then(() => null),
  type: async ({ selector, text }) => {
    await page.click(selector, { count: 3 }); // what it holds is selected and replaced
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
    return null;
  },
  press: ({ key }) => page.keyboard.press(key).then(() => null),
  write: ({ text }) => page.keyboard.type(text).then(() => null),
  focus: ({ selector }) => page.focus(selector).then(() => null),
  wheel: ({ selector, by }) => page.hover(selector).then(() => page.mouse.wheel({ deltaY: by })).then(() => null),
  size: ({ width, height }) => page.setViewport({ width, height }).then(() => null),
  // scheme is what the system says it prefers; only Chromium can be told.
  scheme: ({ scheme }) => page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]).then(() => null),
  told: ({ from }) => page.evaluate((from) => window.told.slice(from), from),
  // still waits for what moves right now: a row that turns from one scheme's color
  // into the other's is of neither.
  still: () => page.evaluate(async () => {
    const ending = document.getAnimations().filter((a) => a.effect.getComputedTiming().endTime !== Infinity);
    await Promise.allSettled(ending.map((a) => a.finished));
    return null;
  }),
  // violations is what axe-core finds fault with, each with the elements.
  violations: async () => {
    const source = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    await page.evaluate(`${source}; null`);
    return page.evaluate(async () => {
      const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
      return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)} (${failureSummary})`).join("; ")}`);
    });
  },
  // record and recorded tell what the page's main thread did between them, in ms:
  // the longest task, by the clock and in time of the processor, and all tasks.
  // Only Chromium can.
  record: () => page.tracing.start({ categories: ["toplevel"] }).then(() => null),
  recorded: async () => {
    const { traceEvents } = JSON.parse(Buffer.from(await page.tracing.stop()).toString());
    const threadOf = ({ pid, tid }) => `${pid}/${tid}`;
    const mains = new Set(traceEvents.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain").map(threadOf));
    const threads = new Map();
    for (const event of traceEvents) {
      if (!event.name.endsWith("RunTask") || event.ph !== "X" || !mains.has(threadOf(event))) continue;
      const thread = threads.get(threadOf(event)) ?? { longest: 0, longestCPU: 0, cpu: 0, end: 0 };
      threads.set(threadOf(event), thread);
      if (event.ts < thread.end) continue; // inside another one
      thread.end = event.ts + event.dur;
      thread.longest = Math.max(thread.longest, event.dur / 1000);
      thread.longestCPU = Math.max(thread.longestCPU, (event.tdur ?? 0) / 1000);
      thread.cpu += (event.tdur ?? 0) / 1000;
    }
    return [...threads.values()].sort((a, b) => b.cpu - a.cpu)[0];
  },
  rows: ({ from }) => page.evaluate((from) => window.seen.slice(from), from),
  problems: () => page.evaluate(() => window.problems),
  screenshot: ({ path, fullPage = false }) => page.screenshot({ path, fullPage }).then(() => null),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...options } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[name](options)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
