// Blocks taken out of the chain: executed again from a witness alone, handed over as Engine API
// payloads, and looked into.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPublicClient, http, keccak256, toRlp } from "viem";

import { check, runCases, setting } from "./support.mjs";

const rpc = setting("OPENLEDGER_RPC");
const program = setting("OPENLEDGER");
const client = createPublicClient({ transport: http(rpc) });
const folder = mkdtempSync(join(tmpdir(), "openledger-blocks-"));
const file = (name) => join(folder, name);
const openledger = (...args) => execFileSync(program, ["chain", ...args], { encoding: "utf8" });

/** The last block and the one with the most transactions. */
async function interesting() {
  const last = await client.getBlock();
  let best = last;
  for (let number = 1n; number <= last.number; number++) {
    const block = await client.getBlock({ blockNumber: number });
    if (block.transactions.length > best.transactions.length) best = block;
  }
  return [last, best];
}

check("a block executes to its own hash from its witness alone", async () => {
  for (const block of await interesting()) {
    const path = file(`witness-${block.number}.json`);
    openledger("witness", "--block", `${block.number}`, "--rpc", rpc, "--out", path);
    const outcome = JSON.parse(openledger("replay", "--witness", path, "--json"));
    assert.equal(outcome.hash, block.hash);
    assert.equal(outcome.agrees, true);
    assert.equal(outcome.state_root, block.stateRoot);
    assert.match(openledger("replay", "--witness", path), new RegExp(block.hash));

    // Without one of its trie nodes it does not.
    const witness = JSON.parse(readFileSync(path, "utf8"));
    witness.witness.state.pop();
    const damaged = file("damaged.json");
    writeFileSync(damaged, JSON.stringify(witness));
    const failed = spawnSync(program, ["chain", "replay", "--witness", damaged], { encoding: "utf8" });
    assert.notEqual(failed.status, 0);
    assert.match(failed.stderr, /missing node/);
  }
});

check("blocks are handed over as Engine API payloads", async () => {
  const path = file("payloads.jsonl");
  openledger("export", "--engine-payloads", "--rpc", rpc, "--to", "5", "--out", path);
  const lines = readFileSync(path, "utf8").trim().split("\n").map((line) => JSON.parse(line));
  assert.equal(lines.length, 5);
  let parent = (await client.getBlock({ blockNumber: 0n })).hash;
  for (const { id, method, params } of lines) {
    assert.equal(method, "engine_newPayloadV4");
    const [payload, blobs, beaconRoot, requests] = params;
    assert.deepEqual([blobs, requests, payload.withdrawals], [[], [], []]);
    assert.equal(payload.parentHash, parent);
    const block = await client.getBlock({ blockNumber: BigInt(id) });
    // The header that an execution client makes of the payload (Yellow paper, EIPs 1559, 4399,
    // 4788, 4844, 7685; OP Stack Isthmus), put together here and hashed.
    const quantity = (hex) => (BigInt(hex) === 0n ? "0x" : `0x${BigInt(hex).toString(16).replace(/^(.(..)*)$/, "0$1")}`);
    const header = [
      payload.parentHash,
      "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
      payload.feeRecipient,
      payload.stateRoot,
      block.transactionsRoot,
      payload.receiptsRoot,
      payload.logsBloom,
      "0x",
      quantity(payload.blockNumber),
      quantity(payload.gasLimit),
      quantity(payload.gasUsed),
      quantity(payload.timestamp),
      payload.extraData,
      payload.prevRandao,
      "0x0000000000000000",
      quantity(payload.baseFeePerGas),
      payload.withdrawalsRoot,
      quantity(payload.blobGasUsed),
      quantity(payload.excessBlobGas),
      beaconRoot,
      "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ];
    assert.equal(keccak256(toRlp(header)), payload.blockHash);
    assert.equal(payload.blockHash, block.hash);
    assert.deepEqual(payload.transactions.map((raw) => keccak256(raw)), block.transactions);
    parent = payload.blockHash;
  }
});

check("what happens inside transactions adds up to their receipts", async () => {
  const [, block] = await interesting();
  const traces = await client.request({
    method: "debug_traceBlockByHash",
    params: [block.hash, { tracer: "callTracer" }],
  });
  assert.deepEqual(traces.map((trace) => trace.txHash), block.transactions);
  for (const { txHash, result } of traces) {
    const receipt = await client.getTransactionReceipt({ hash: txHash });
    assert.equal(BigInt(result.gasUsed), receipt.gasUsed);
    assert.equal(result.from, receipt.from);
    assert.equal(result.error === undefined, receipt.status === "success");
  }
});

check("receipts share the block's footprint of data", async () => {
  const [, block] = await interesting();
  const receipts = await client.request({ method: "eth_getBlockReceipts", params: [block.hash] });
  const paying = receipts.filter(({ type }) => type !== "0x7e");
  assert.ok(paying.length > 0 && paying.every(({ blobGasUsed }) => BigInt(blobGasUsed) > 0n));
  const sum = paying.reduce((before, { blobGasUsed }) => before + BigInt(blobGasUsed), 0n);
  assert.equal(sum, block.blobGasUsed);
});

await runCases();
rmSync(folder, { recursive: true });
