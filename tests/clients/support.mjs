// Shared by the check_*.mjs scripts: what the runner tells them, and a test runner of ten lines.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** An environment variable that `cargo xtask test --only clients` sets. */
export function setting(name) {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set; run this through: cargo xtask test --only clients`);
  }
  return value;
}

/** The JSON summary that the node printed after the loop. */
export const summary = () => JSON.parse(readFileSync(setting("OPENLEDGER_SUMMARY"), "utf8"));

const cases = [];

/** Registers one case; they run in order when `runCases` is called. */
export function check(name, body) {
  cases.push({ name, body });
}

/** Runs every registered case, prints one line each, and sets the exit status. */
export async function runCases() {
  let failed = 0;
  for (const { name, body } of cases) {
    const started = performance.now();
    try {
      await body();
      console.log(`ok     ${name} (${Math.round(performance.now() - started)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}\n${error.stack ?? error}`);
    }
  }
  console.log(`${cases.length - failed} passed; ${failed} failed`);
  process.exitCode = failed === 0 && cases.length > 0 ? 0 : 1;
}

/** Asks again until `probe` returns something; fails after `seconds`. */
export async function until(what, seconds, probe) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A request to the HTTP API with the dev key, as JSON. */
export async function api(path, options = {}) {
  const { key = summary().dev.api_key, headers = {}, body, ...rest } = options;
  const response = await fetch(setting("OPENLEDGER_HTTP") + path, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      accept: "application/json",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(key ? { authorization: `Bearer ${key}` } : {}),
      ...headers,
    },
    body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
    ...rest,
  });
  const text = await response.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: response.status, headers: response.headers, json, text };
}
