// Both layers from outside: viem's OP Stack actions move OPEN there and back, and a verifier that
// starts from nothing gets the same chain.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concat, createPublicClient, createWalletClient, defineChain, http, keccak256, parseEther, zeroHash } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { getWithdrawals, publicActionsL1, publicActionsL2, walletActionsL1 } from "viem/op-stack";

import { DEV_CHAIN_ID, roleKey } from "./dev_wallets.mjs";
import { check, root, runCases, setting, until } from "./support.mjs";

const [l1Url, l2Url, da] = [setting("OPENLEDGER_L1"), setting("OPENLEDGER_RPC"), setting("OPENLEDGER_DA")];
const abi = (name) => JSON.parse(readFileSync(join(root, `contracts/abi/${name}.json`), "utf8")).abi;
const view = await (await fetch(`${setting("OPENLEDGER_HTTP")}/v1/rollup`)).json();
const at = view.l1.contracts;

const l1 = defineChain({
  id: at.chainId,
  name: "OpenLedger dev layer 1",
  nativeCurrency: { name: "ETH", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [l1Url] } },
});
const l2 = defineChain({
  id: DEV_CHAIN_ID,
  name: "OpenLedger dev",
  sourceId: l1.id,
  nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
  rpcUrls: { default: { http: [l2Url] } },
  contracts: {
    portal: { [l1.id]: { address: at.portal } },
    disputeGameFactory: { [l1.id]: { address: at.disputeGameFactory } },
  },
});
const polling = { pollingInterval: 500, transport: http() };
// The dev layer 1 has no Multicall3; viem brings it along with each call.
const deployless = { batch: { multicall: { deployless: true } } };
const one = createPublicClient({ chain: l1, ...polling, ...deployless }).extend(publicActionsL1());
const two = createPublicClient({ chain: l2, ...polling }).extend(publicActionsL2());
const wallet = (chain, key) => createWalletClient({ chain, transport: http(), account: privateKeyToAccount(key) });

const newcomer = generatePrivateKey();
const somebody = privateKeyToAccount(newcomer).address;
const OPEN_MINTER = "0x4F50454E00000000000000000000000000000001";
const token = { address: at.openToken, abi: abi("OpenToken") };
const bridge = { address: at.openBridge, abi: abi("OpenBridge") };

const treasurer = wallet(l1, roleKey("deployer"));
const sent = async (client, hash) => {
  const receipt = await client.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  return receipt;
};

check("a batch is where it says, and its payload what it says", async () => {
  const batch = await (await fetch(`${setting("OPENLEDGER_HTTP")}/v1/rollup/batches/1`)).json();
  assert.equal(batch.first, 1);
  assert.equal(batch.target, "da");
  assert.equal(batch.data.kind, "certificate");
  assert.ok(batch.data.signers.length >= 3, JSON.stringify(batch.data));
  const [carrier] = batch.l1_transactions;
  const transaction = await one.getTransaction({ hash: carrier });
  assert.equal(transaction.input, `0x01${batch.commitment.slice(2)}`);
  assert.equal(transaction.blockNumber, BigInt(batch.l1_block));
  const payload = new Uint8Array(await (await fetch(batch.payload_url)).arrayBuffer());
  assert.equal(payload.length, batch.data.payload_bytes);
  assert.equal(keccak256(payload), batch.data.payload_digest);
});

check("OPEN deposited on the layer 1 arrives at a wallet that has nothing", async () => {
  const amount = parseEther("40");
  await sent(one, await treasurer.writeContract({ ...token, functionName: "approve", args: [bridge.address, amount] }));
  await sent(one, await treasurer.writeContract({ ...bridge, functionName: "deposit", args: [somebody, amount] }));
  await until("the deposit", 120, async () => (await two.getBalance({ address: somebody })) === amount);
});

check("escrow on the layer 1 = coins outside NativeAssetLiquidity", async () => {
  const escrowed = await one.readContract({ ...bridge, functionName: "escrowed" });
  const supply = await one.readContract({ ...token, functionName: "totalSupply" });
  const idle = await two.getBalance({ address: "0x4200000000000000000000000000000000000029" });
  assert.equal(supply - escrowed, idle);
});

check("a withdrawal is proven, finalized and paid on the layer 1", async () => {
  const amount = parseEther("15");
  const hash = await wallet(l2, newcomer).writeContract({
    address: OPEN_MINTER,
    abi: abi("OpenMinter"),
    functionName: "withdraw",
    args: [somebody, 0n],
    value: amount,
  });
  const receipt = await sent(two, hash);
  const [withdrawal] = getWithdrawals(receipt);
  assert.equal(await one.getWithdrawalStatus({ receipt, targetChain: l2 }), "waiting-to-prove");
  // A claim about its block, which comes every 30 blocks; then the library's own waiting is short.
  await until("a claim about the block", 180, async () => {
    const status = await one.getWithdrawalStatus({ receipt, targetChain: l2 });
    return status === "ready-to-prove";
  });
  const { game } = await one.waitToProve({ receipt, targetChain: l2 });
  assert.ok(game.l2BlockNumber >= receipt.blockNumber);
  // A claim cannot be used in its own block, and gas is estimated on the newest one.
  await until("the next block of the layer 1", 30, async () => (await one.getBlock()).timestamp > game.timestamp);
  const prove = await two.buildProveWithdrawal({ withdrawal, game });
  const prover = wallet(l1, roleKey("governor")).extend(walletActionsL1());
  await sent(one, await prover.proveWithdrawal({ ...prove, targetChain: l2 }));
  await until("the end of the waiting", 180, async () => {
    const status = await one.getWithdrawalStatus({ receipt, targetChain: l2 });
    return status === "ready-to-finalize";
  });
  await sent(one, await prover.finalizeWithdrawal({ withdrawal, targetChain: l2 }));
  assert.equal(await one.readContract({ ...token, functionName: "balanceOf", args: [somebody] }), amount);
  assert.equal(await one.getWithdrawalStatus({ receipt, targetChain: l2 }), "finalized");
});

check("an output root is what the specification says", async () => {
  const block = await two.getBlock({ blockTag: "safe" });
  const output = await two.request({ method: "optimism_outputAtBlock", params: [`0x${block.number.toString(16)}`] });
  const passer = await two.getProof({
    address: "0x4200000000000000000000000000000000000016",
    storageKeys: [],
    blockNumber: block.number,
  });
  assert.equal(output.outputRoot, keccak256(concat([zeroHash, block.stateRoot, passer.storageHash, block.hash])));
  assert.equal(output.blockRef.hash, block.hash);
});

check("heads are in order, and follow the layer 1", async () => {
  const status = await two.request({ method: "optimism_syncStatus", params: [] });
  const config = await two.request({ method: "optimism_rollupConfig", params: [] });
  assert.ok(status.finalized_l2.number <= status.safe_l2.number && status.safe_l2.number <= status.unsafe_l2.number);
  assert.ok(status.safe_l2.number > 0);
  const origin = await one.getBlock({ blockNumber: BigInt(status.safe_l2.l1origin.number) });
  assert.equal(origin.hash, status.safe_l2.l1origin.hash);
  assert.equal(config.l2_chain_id, DEV_CHAIN_ID);
  assert.equal(status.unsafe_l2.timestamp, config.genesis.l2_time + config.block_time * status.unsafe_l2.number);
});

check("a verifier that starts from nothing gets the same chain", () => {
  const home = mkdtempSync(join(tmpdir(), "openledger-verifier-"));
  const args = ["verifier", "--l1", l1Url, "--da", da, "--data-dir", home, "--rpc", "127.0.0.1:0", "--once", "--json"];
  const run = spawnSync(setting("OPENLEDGER"), args, { encoding: "utf8", timeout: 300_000 });
  rmSync(home, { recursive: true });
  assert.equal(run.status, 0, run.stderr);
  const head = JSON.parse(run.stdout);
  return two.getBlock({ blockNumber: BigInt(head.number) }).then((block) => {
    assert.ok(head.number > 0);
    assert.equal(head.hash, block.hash);
    assert.equal(head.stateRoot, block.stateRoot);
  });
});

await runCases();
