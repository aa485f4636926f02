// Every page in a real browser. Fails on any console error, on serious accessibility findings,
// and when a page cannot be read without scripts.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

import { api, check, runCases, setting, summary } from "./support.mjs";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const home = setting("OPENLEDGER_HTTP");
const screenshots = setting("OPENLEDGER_SCREENSHOTS");
mkdirSync(screenshots, { recursive: true });

const browser = await chromium.launch({
  executablePath: setting("CHROMIUM"),
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

/** Opens a page that collects what goes wrong in it. */
async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, bypassCSP: true, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  page.on("requestfailed", (request) => {
    // Leaving a page ends its event stream; that is no fault.
    if (request.failure()?.errorText !== "net::ERR_ABORTED") {
      problems.push(`request: ${request.url()} ${request.failure()?.errorText}`);
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(home) && !request.url().startsWith("data:")) {
      problems.push(`foreign request: ${request.url()}`);
    }
  });
  const response = await page.goto(home + path, { waitUntil: "domcontentloaded" });
  assert.equal(response.status(), 200, `${path} answered ${response.status()}`);
  return { page, problems, close: () => context.close() };
}

async function accessible(page, name) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }),
  );
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(
    serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`),
    [],
    `${name} has serious accessibility findings`,
  );
}

const datanet = (await api("/v1/datanets")).json.data[0].id;
const completion = (await api("/v1/completions")).json.data[0].id;
const [earner] = (await api("/v1/wallets")).json.items;
// The newest that is posted: one may be on its way to the next block.
const epoch = (await api("/v1/epochs")).json.find((epoch) => epoch.tx);
const block = (await api(`/v1/transactions/${epoch.tx}`)).json.block;
const [run] = (await api("/v1/runs")).json.data;
const adapter = encodeURIComponent(summary().adapter.id);

const pages = {
  overview: "/",
  datanets: "/datanets",
  datanet: `/datanets/${datanet}`,
  contribute: `/datanets/${datanet}/contribute`,
  models: "/models",
  model: `/models/${adapter}`,
  tune: "/studio/new",
  runs: "/runs",
  run: `/runs/${run.id}`,
  chat: `/chat?model=${adapter}`,
  attribution: `/attributions/${completion}`,
  wallets: "/wallets",
  wallet: `/wallet/${earner.address}`,
  explorer: "/explorer",
  layers: "/explorer/layers",
  batch: "/explorer/batch/1",
  block: `/explorer/block/${block}`,
  transaction: `/explorer/tx/${epoch.tx}`,
  epochs: "/epochs",
};

for (const [name, path] of Object.entries(pages)) {
  check(`${name}: light, dark, narrow, and without scripts`, async () => {
    for (const colorScheme of ["light", "dark"]) {
      const { page, problems, close } = await open(path, { colorScheme });
      assert.ok((await page.locator("h1").count()) === 1, "one h1 a page");
      assert.notEqual(await page.title(), "");
      await accessible(page, `${name} (${colorScheme})`);
      await page.screenshot({ path: join(screenshots, `${name}-${colorScheme}.png`), fullPage: true });
      assert.deepEqual(problems, []);
      await close();
    }
    const narrow = await open(path, { viewport: { width: 360, height: 740 } });
    const overflow = await narrow.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(overflow <= 0, `${name} is ${overflow} px wider than a phone`);
    await narrow.page.screenshot({ path: join(screenshots, `${name}-narrow.png`) });
    assert.deepEqual(narrow.problems, []);
    await narrow.close();
    const plain = await open(path, { javaScriptEnabled: false });
    assert.ok((await plain.page.locator("main").innerText()).trim().length > 40, `${name} is empty without scripts`);
    await plain.close();
  });
}

check("keyboard: the first Tab offers to skip to the content", async () => {
  const { page, close } = await open("/");
  await page.keyboard.press("Tab");
  const focused = await page.evaluate(() => ({ text: document.activeElement.textContent, href: document.activeElement.getAttribute("href") }));
  assert.match(focused.text, /skip/i);
  assert.match(focused.href, /^#/);
  await close();
});

check("chat: an answer appears, its spans are marked, and it says who taught it", async () => {
  const { page, problems, close } = await open(pages.chat);
  // A row of the Datanet that the adapter was tuned on for many passes.
  await page.fill("#ask", "What is a Merkle tree?");
  await page.keyboard.press("Enter");
  const panel = page.locator("[data-panel]");
  await panel.locator("a[href^='/wallet/']").first().waitFor({ timeout: 120_000 });
  const people = await panel.locator("a[href^='/wallet/']").allInnerTexts();
  assert.ok(people.length > 0);
  assert.ok((await page.locator(".message .span[data-spans]").count()) > 0, "no span is marked");
  await accessible(page, "chat with an answer");
  await page.screenshot({ path: join(screenshots, "chat-answered.png"), fullPage: true });
  assert.deepEqual(problems, []);
  await close();
});

check("contribute: a file is checked row by row, signed and anchored", async () => {
  const { page, problems, close } = await open(pages.contribute);
  const rows = [
    { question: "What is a delta?", answer: "A delta is the land that a river builds where it meets the sea.", contributor: "rivers-desk" },
    { question: "What is a delta?", answer: "A delta is the land that a river builds where it meets the sea.", contributor: "copy-desk" },
  ];
  const buffer = Buffer.from(rows.map((row) => JSON.stringify(row)).join("\n"));
  await page.setInputFiles("#file", { name: "rivers.jsonl", mimeType: "application/x-ndjson", buffer });
  await page.locator("[data-verdicts] tbody tr").nth(1).waitFor({ timeout: 30_000 });
  assert.equal(await page.locator("[data-verdicts] tbody tr").count(), 2);
  await accessible(page, "contribute with verdicts");
  await page.screenshot({ path: join(screenshots, "contribute-verdicts.png"), fullPage: true });
  await page.locator("button[name=ticket]").click();
  await page.getByRole("heading", { level: 1, name: /on the chain/i }).waitFor({ timeout: 60_000 });
  await accessible(page, "contribution receipt");
  assert.ok((await page.locator("a[href^='/explorer/tx/']").count()) > 0);
  assert.deepEqual(problems, []);
  await close();
});

check("tune: a run is started, watched to its end, and leads to the chat", async () => {
  const { page, problems, close } = await open(pages.tune);
  await page.locator("input[name=preset][value=quick]").check();
  await page.locator("#name").fill("tuned-in-a-browser");
  await page.getByRole("button", { name: "Start tuning" }).click();
  await page.waitForURL(/\/runs\/run-\d+$/);
  await page.locator("main a[href^='/chat']").first().waitFor({ timeout: 120_000 });
  assert.match(await page.locator("main").innerText(), /succeeded/);
  assert.deepEqual(problems, []);
  const { json } = await api("/v1/models");
  assert.ok(json.data.some((model) => model.id === "tuned-in-a-browser" && model.parent));
  await close();
});

check("explorer: a transaction of ours reads as a sentence", async () => {
  const { page, close } = await open(pages.transaction);
  const text = await page.locator("main").innerText();
  assert.match(text, /epoch/i);
  await close();
});

check("a page that does not exist answers 404 with a way back", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const response = await page.goto(`${home}/no-such-page`);
  assert.equal(response.status(), 404);
  assert.ok((await page.locator("a[href='/']").count()) > 0);
  await context.close();
});

await runCases();
await browser.close();
