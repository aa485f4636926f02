// Foundry's cast, the way people use a chain from a terminal.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

import { DEV_CHAIN_ID, roleKey } from "./dev_wallets.mjs";
import { check, runCases, setting, summary } from "./support.mjs";

const rpc = setting("OPENLEDGER_RPC");

function run(args) {
  const result = spawnSync(setting("CAST"), args, { encoding: "utf8", env: { ...process.env, ETH_RPC_URL: rpc } });
  if (result.error) throw result.error;
  return result;
}

/** Runs cast and returns what it printed; fails with its words when it fails. */
function cast(...args) {
  const { status, stdout, stderr } = run(args);
  assert.equal(status, 0, `cast ${args.join(" ")}: ${stderr || stdout}`);
  return stdout.trim();
}

const json = (...args) => JSON.parse(cast(...args, "--json"));

check("chain id and client version", () => {
  assert.equal(Number(cast("chain-id")), DEV_CHAIN_ID);
  assert.equal(summary().chain.id, DEV_CHAIN_ID);
  assert.match(cast("client"), /openledger/i);
});

check("blocks link to their parents and carry a state root", () => {
  const head = json("block", "latest");
  assert.ok(Number(head.number) >= summary().chain.head, "the head went backwards");
  const parent = json("block", String(Number(head.number) - 1));
  assert.equal(head.parentHash, parent.hash);
  assert.match(head.stateRoot, /^0x[0-9a-f]{64}$/);
  assert.ok(Number(head.timestamp) >= Number(parent.timestamp));
  assert.ok(Math.abs(Number(head.timestamp) - Date.now() / 1000) < 3600, "timestamps follow the clock");
});

check("a transfer moves exactly its value", () => {
  const key = roleKey("faucet");
  const from = cast("wallet", "address", "--private-key", key);
  const to = "0x00000000000000000000000000000000000c0de5";
  const before = BigInt(cast("balance", to));
  const senderBefore = BigInt(cast("balance", from));
  const receipt = json("send", "--private-key", key, to, "--value", "123456789wei");
  assert.equal(Number(receipt.status), 1);
  assert.equal(BigInt(cast("balance", to)) - before, 123456789n);
  const gas = BigInt(receipt.gasUsed) * BigInt(receipt.effectiveGasPrice) + BigInt(receipt.l1Fee ?? 0) + BigInt(receipt.operatorFee ?? 0);
  assert.equal(senderBefore - BigInt(cast("balance", from)), 123456789n + gas, "the sender pays value and gas, nothing else");
  assert.equal(Number(receipt.gasUsed), 21000);
});

check("a transaction can be found again", () => {
  const key = roleKey("faucet");
  const sent = json("send", "--private-key", key, "0x00000000000000000000000000000000000c0de5", "--value", "1wei");
  const found = json("tx", sent.transactionHash);
  assert.equal(found.hash, sent.transactionHash);
  assert.equal(found.blockHash, sent.blockHash);
  const again = json("receipt", sent.transactionHash);
  assert.equal(again.blockNumber, sent.blockNumber);
});

check("a contract is deployed, called and estimated", () => {
  // Returns 42: PUSH1 2a PUSH1 0 MSTORE PUSH1 20 PUSH1 0 RETURN, behind a 12-byte constructor.
  const runtime = "602a60005260206000f3";
  const receipt = json("send", "--private-key", roleKey("faucet"), "--create", `0x600a600c600039600a6000f3${runtime}`);
  assert.equal(Number(receipt.status), 1);
  assert.equal(cast("code", receipt.contractAddress), `0x${runtime}`);
  assert.equal(cast("call", receipt.contractAddress, "answer()(uint256)"), "42");
  assert.ok(Number(cast("estimate", receipt.contractAddress, "answer()")) > 21000);
});

check("our events are there to be read", () => {
  const logs = json("logs", "--from-block", "0", "--to-block", "latest", "Claimed(address,uint64,uint128,uint128,address)");
  // Later epochs may have been claimed meanwhile; the second indexed field is the epoch.
  const { epoch, claims } = summary().settlement;
  const ofTheLoop = logs.filter((log) => Number(log.topics[2]) <= epoch);
  assert.equal(ofTheLoop.length, claims, "one Claimed event a claim");
});

check("what is not built answers 'method not found'", () => {
  const { status, stderr } = run(["rpc", "eth_notBuiltYet"]);
  assert.notEqual(status, 0);
  assert.match(stderr, /-32601|not found/i);
});

check("a transaction without funds is refused with the reason", () => {
  const nobody = `0x${"11".repeat(32)}`;
  const { status, stderr } = run(["send", "--private-key", nobody, "0x00000000000000000000000000000000000c0de5", "--value", "1ether"]);
  assert.notEqual(status, 0);
  assert.match(stderr, /insufficient|funds/i);
});

await runCases();
