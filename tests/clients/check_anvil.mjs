// Somebody else's layer 1: the roles as processes of their own on anvil, and a verifier that starts
// from nothing and ends up with the sequencer's chain.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPublicClient, createWalletClient, defineChain, http, keccak256, parseEther, toBytes } from "viem";
import { privateKeyToAccount } from "viem/accounts";

import { check, root, runCases, setting, until } from "./support.mjs";

const CHAIN_ID = 770_077;
const folder = mkdtempSync(join(tmpdir(), "openledger-anvil-"));
const running = [];

const accounts = Object.fromEntries(
  ["deployer", "batcher", "guardian", "owner", "rich"].map((name) => {
    const key = keccak256(toBytes(`openledger anvil test ${name}`));
    writeFileSync(join(folder, `${name}.key`), key.slice(2));
    return [name, privateKeyToAccount(key)];
  }),
);
const keyFile = (name) => join(folder, `${name}.key`);

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts a program; its output is kept. */
function start(program, args) {
  const child = spawn(program, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const started = { child, out: "", err: "" };
  child.stdout.on("data", (chunk) => (started.out += chunk));
  child.stderr.on("data", (chunk) => (started.err += chunk));
  started.ended = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
  running.push(started);
  return started;
}

/** A role that says where it listens; gives it and its URL. */
async function role(...args) {
  const started = start(setting("OPENLEDGER"), args);
  const url = await until(`the address of ${args[0]}`, 60, () => {
    assert.equal(started.child.exitCode, null, started.err);
    return started.err.match(/ at (http:\/\/\S+)/)?.[1];
  });
  return Object.assign(started, { url });
}

/** Ends a program as Ctrl-C does; it must end well. */
async function interrupt(started) {
  started.child.kill("SIGINT");
  const code = await started.ended;
  assert.equal(code, 0, started.err);
}

const ask = async (url, method, ...params) => {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  const { result, error } = await response.json();
  assert.equal(error, undefined, `${method}: ${JSON.stringify(error)}`);
  return result;
};

async function anvil() {
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

/** A network with these options of `batcher` and `verifier`; gives what the batcher did. */
async function story(name, { da, batcherOptions, verifierOptions }) {
  const l1 = await anvil();
  const dir = (part) => join(folder, name, part);
  const { owner, guardian, batcher, rich } = accounts;
  execFileSync(setting("OPENLEDGER"), [
    ...["l1", "deploy", "--l1", l1, "--key-file", keyFile("deployer"), "--chain-id", `${CHAIN_ID}`],
    ...["--owner", owner.address, "--guardian", guardian.address, "--batcher", batcher.address],
    ...["--allocate", `${rich.address}=1000`, "--block-time", "1", "--out", dir("network"), "--json"],
  ]);
  const on = ["--l1", l1, "--network", dir("network")];
  const beacon = verifierOptions(l1);
  const data = da ? await role("da", "--data-dir", dir("da"), "--listen", `127.0.0.1:${await freePort()}`) : undefined;
  const where = data ? ["--da", data.url] : [];
  const sequencer = await role(
    ...["sequencer", ...on, ...where, ...beacon, "--data-dir", dir("sequencer"), "--rpc", "127.0.0.1:0"],
  );
  const batching = start(setting("OPENLEDGER"), [
    ...["batcher", ...on, ...where, "--l2", sequencer.url, "--key-file", keyFile("batcher")],
    ...["--max-channel-duration", "2", ...batcherOptions],
  ]);

  const chain = defineChain({
    id: CHAIN_ID,
    name: "test",
    nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
    rpcUrls: { default: { http: [sequencer.url] } },
  });
  const client = createPublicClient({ chain, transport: http(), pollingInterval: 100 });
  const wallet = createWalletClient({ account: rich, chain, transport: http() });
  let last = 0n;
  for (let n = 1; n <= 3; n++) {
    const hash = await wallet.sendTransaction({ to: owner.address, value: parseEther("2") });
    const receipt = await client.waitForTransactionReceipt({ hash, timeout: 30_000 });
    assert.equal(receipt.status, "success");
    last = receipt.blockNumber;
  }
  await until("the safe head", 120, async () => {
    assert.equal(batching.child.exitCode, null, batching.err);
    const status = await ask(sequencer.url, "optimism_syncStatus");
    return BigInt(status.safe_l2.number) >= last;
  }).catch((error) => {
    throw new Error(`${error.message}; batcher:\n${batching.err}\nsequencer:\n${sequencer.err}`);
  });

  // From an empty directory, with the layer 1 and the data alone.
  const args = ["verifier", ...on, ...where, ...beacon, "--data-dir", dir("verifier"), "--rpc", "127.0.0.1:0"];
  const said = execFileSync(setting("OPENLEDGER"), [...args, "--once", "--json"], { encoding: "utf8", timeout: 120_000 });
  const reached = JSON.parse(said);
  assert.ok(BigInt(reached.number) >= last, `${reached.number} < ${last}`);
  const block = await client.getBlock({ blockNumber: BigInt(reached.number) });
  assert.equal(reached.hash, block.hash);
  assert.equal(reached.stateRoot, block.stateRoot);
  assert.ok(reached.transactions >= 3);

  await interrupt(batching);
  await interrupt(sequencer);
  if (data) await interrupt(data);
  const done = JSON.parse(batching.out);
  assert.ok(done.count > 0, batching.out);
  return { l1, done };
}

check("a verifier on anvil reaches the sequencer's chain from nothing", async () => {
  const { done } = await story("da", { da: true, batcherOptions: [], verifierOptions: () => [] });
  assert.equal(done.fail_overs, 0);
  assert.ok(done.recent.every((batch) => batch.target === "da"), JSON.stringify(done));
});

check("the same with batches in blobs", async () => {
  const { l1, done } = await story("blobs", {
    da: false,
    batcherOptions: ["--blobs"],
    verifierOptions: (url) => ["--l1-beacon", url],
  });
  assert.equal(done.fail_overs, 0);
  assert.ok(done.recent.every((batch) => batch.target === "blobs"), JSON.stringify(done));
  const [carrier] = done.recent[0].l1_transactions;
  const transaction = await ask(l1, "eth_getTransactionByHash", carrier);
  assert.equal(transaction.type, "0x3");
  assert.equal(transaction.input, "0x");
});

try {
  await runCases();
} finally {
  for (const { child } of running) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
