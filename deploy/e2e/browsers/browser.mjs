// Drives one browser for the tests beside it. Commands come in on standard input, a line
// of JSON each: {"do": "...", ...}; each is answered by one line on standard
// output: {"value": ...} or {"error": "..."}. The browser ends with the input.
//
// usage: node browser.mjs chrome|firefox PATH-OF-THE-BROWSER

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
        for (const node of change.addedNodes) {
          if (node.nodeName !== "LI") continue;
          const { name, id, subject, seq } = node.dataset;
          window.seen.push({ name, id, subject, seq: Number(seq ?? 0), text: node.querySelector(".payload").textContent });
        }
      }
    }).observe(document, { childList: true, subtree: true });
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
      if (await page.evaluate(script)) return null;
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
  rows: ({ from }) => page.evaluate((from) => window.seen.slice(from), from),
  problems: () => page.evaluate(() => window.problems),
  screenshot: ({ path }) => page.screenshot({ path }).then(() => null),
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
