// The roles of a rollup as processes of their own, on anvil as a layer 1 that is not ours.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineChain, keccak256, toBytes } from "viem";
import { privateKeyToAccount } from "viem/accounts";

import { root, setting, until } from "./support.mjs";

export const CHAIN_ID = 770_077;

/** Where everything is kept until the program ends. */
export const folder = mkdtempSync(join(tmpdir(), "openledger-anvil-"));
const running = [];

export const accounts = Object.fromEntries(
  ["deployer", "batcher", "guardian", "owner", "rich"].map((name) => {
    const key = keccak256(toBytes(`openledger anvil test ${name}`));
    writeFileSync(join(folder, `${name}.key`), key.slice(2));
    return [name, privateKeyToAccount(key)];
  }),
);
export const keyFile = (name) => join(folder, `${name}.key`);

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts a program; its output is kept. */
export function start(program, args) {
  const child = spawn(program, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const started = { child, out: "", err: "" };
  child.stdout.on("data", (chunk) => (started.out += chunk));
  child.stderr.on("data", (chunk) => (started.err += chunk));
  started.ended = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
  running.push(started);
  return started;
}

/** A program that says where it listens, with its URL. */
async function listening(started, name) {
  const url = await until(`the address of ${name}`, 60, () => {
    assert.equal(started.child.exitCode, null, started.err);
    return started.err.match(/ at (http:\/\/\S+)/)?.[1];
  });
  return Object.assign(started, { url });
}

/** A role that says where it listens; gives it and its URL. */
export const role = (...args) => listening(start(setting("OPENLEDGER"), args), args[0]);

/** The same, as a program whose writes fail, and do not kill it, where `limitFiles` says so. */
export const roleWithLimits = (...args) =>
  listening(start("sh", ["-c", `trap "" XFSZ; exec "$0" "$@"`, setting("OPENLEDGER"), ...args]), args[0]);

/** No file of a program takes a byte at `bytes` or above: to the program, a disk that is full. */
export function limitFiles(started, bytes) {
  execFileSync("prlimit", ["--pid", `${started.child.pid}`, `--fsize=${bytes}:unlimited`]);
}

/** Ends a program as Ctrl-C does; it must end well. */
export async function interrupt(started) {
  started.child.kill("SIGINT");
  const code = await started.ended;
  assert.equal(code, 0, started.err);
}

/** Ends what still runs, and removes what was kept. */
export function clear() {
  for (const { child } of running) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}

/** The answer to a call, error and all. */
export async function answer(url, method, ...params) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  return response.json();
}

export async function ask(url, method, ...params) {
  const { result, error } = await answer(url, method, ...params);
  assert.equal(error, undefined, `${method}: ${JSON.stringify(error)}`);
  return result;
}

/** anvil with a block a second, and coins for everybody. */
export async function anvil() {
  const port = await freePort();
  const l1 = `http://127.0.0.1:${port}`;
  const started = start(setting("ANVIL"), ["--port", `${port}`, "--block-time", "1", "--silent"]);
  await until("anvil", 30, async () => {
    assert.equal(started.child.exitCode, null, started.err);
    return ask(l1, "eth_chainId").catch(() => undefined);
  });
  for (const { address } of Object.values(accounts)) {
    await ask(l1, "anvil_setBalance", address, "0x3635c9adc5dea00000");
  }
  return l1;
}

/** Deploys a network on `l1` with its files in `out`, with these `options`; `rich` has 1,000 OPEN. */
export function deploy(l1, out, options = []) {
  const { owner, guardian, batcher, rich } = accounts;
  execFileSync(setting("OPENLEDGER"), [
    ...["l1", "deploy", "--l1", l1, "--key-file", keyFile("deployer"), "--chain-id", `${CHAIN_ID}`],
    ...["--owner", owner.address, "--guardian", guardian.address, "--batcher", batcher.address],
    ...["--allocate", `${rich.address}=1000`, "--block-time", "1", "--out", out, "--json"],
    ...options,
  ]);
}

/** The layer 2 behind a URL, for viem. */
export const layer2 = (url) =>
  defineChain({
    id: CHAIN_ID,
    name: "test",
    nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
    rpcUrls: { default: { http: [url] } },
  });
