// op-reth as the judge of the chain: it makes and checks every block of a sequencer, and of a verifier
// that starts from nothing, and answers the same questions over JSON-RPC. By hand, where there is one:
//
//   OP_RETH=op-reth OPENLEDGER=openledger ANVIL=anvil node tests/clients/op_reth.mjs
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createPublicClient, createWalletClient, http, parseAbi, parseEther, toHex } from "viem";

import { accounts, answer, anvil, ask, clear, deploy, folder, freePort, interrupt, keyFile, layer2, role, start } from "./roles.mjs";
import { check, runCases, setting, until } from "./support.mjs";

const network = join(folder, "network");
const jwt = join(folder, "jwt.hex");
const { owner, rich, batcher } = accounts;
const on = (l1) => ["--l1", l1, "--network", network];

/** Stores its second word at its first, and logs the second under the first. */
const STORE_AND_LOG = "602035600035556020355f5260003560205fa100";
/** Gives back 42 and reverts. */
const REVERT = "602a5f5260205ffd";
const creation = (runtime) => {
  const size = runtime.length / 2;
  assert.ok(size < 32);
  const push = (0x5f + size).toString(16);
  return `0x${push}${runtime}5f5260${size.toString(16).padStart(2, "0")}60${(32 - size).toString(16).padStart(2, "0")}f3`;
};
const words = (...values) => `0x${values.map((value) => value.toString(16).padStart(64, "0")).join("")}`;

/** An op-reth on our genesis; gives its JSON-RPC and its Engine API. */
async function opReth(name) {
  const [rpc, engine, p2p] = [await freePort(), await freePort(), await freePort()];
  const started = start(setting("OP_RETH"), [
    ...["node", "--chain", join(network, "genesis.json"), "--datadir", join(folder, name)],
    ...["--http", "--http.port", `${rpc}`, "--http.api", "eth,net,web3,debug,txpool"],
    ...["--authrpc.port", `${engine}`, "--authrpc.jwtsecret", jwt, "--ipcdisable"],
    ...["--port", `${p2p}`, "--disable-discovery", "--log.file.max-files", "0", "--color", "never"],
  ]);
  const url = `http://127.0.0.1:${rpc}`;
  await until("op-reth", 60, async () => {
    assert.equal(started.child.exitCode, null, started.err + started.out);
    return ask(url, "eth_chainId").catch(() => undefined);
  });
  return { started, url, engine: `http://127.0.0.1:${engine}` };
}

let l1, ours, theirs;
/** Transactions of all kinds, by what they are. */
const sent = {};

check("op-reth makes every block that our sequencer makes", async () => {
  writeFileSync(jwt, "1f".repeat(32));
  l1 = await anvil();
  deploy(l1, network);
  theirs = await opReth("op-reth");
  const genesis = (url) => ask(url, "eth_getBlockByNumber", "0x0", false);
  ours = await role(
    ...["sequencer", ...on(l1), "--data-dir", join(folder, "sequencer"), "--rpc", "127.0.0.1:0"],
    ...["--execution-client", theirs.engine, "--jwt-secret", jwt],
  );
  assert.deepEqual(await genesis(ours.url), await genesis(theirs.url));
  const batching = start(setting("OPENLEDGER"), [
    ...["batcher", ...on(l1), "--l2", ours.url, "--key-file", keyFile("batcher"), "--max-channel-duration", "2"],
  ]);

  const chain = layer2(ours.url);
  const client = createPublicClient({ chain, transport: http(), pollingInterval: 100 });
  const wallet = createWalletClient({ account: rich, chain, transport: http() });
  const include = async (name, request, status = "success") => {
    const hash = await wallet.sendTransaction(request);
    const receipt = await client.waitForTransactionReceipt({ hash, timeout: 30_000 });
    assert.equal(receipt.status, status, name);
    sent[name] = receipt;
    return receipt;
  };
  await include("transfer", { to: owner.address, value: parseEther("2") });
  const { contractAddress: store } = await include("creation", { data: creation(STORE_AND_LOG) });
  const { contractAddress: revert } = await include("another", { data: creation(REVERT) });
  const fixed = { gas: 200_000n };
  await include("store", { to: store, data: words(1, 7), ...fixed });
  await include("revert", { to: revert, ...fixed }, "reverted");
  await include("clear", { to: store, data: words(1, 0), ...fixed });
  await include("no gas left", { to: store, data: words(2, 7), gas: 21_600n }, "reverted");
  await include("legacy", { to: store, data: words(3, 7), type: "legacy", gasPrice: parseEther("0.000000002"), ...fixed });
  const accessList = [{ address: store, storageKeys: [words(4)] }];
  await include("access list", { to: store, data: words(4, 7), type: "eip2930", accessList, gasPrice: parseEther("0.000000002"), ...fixed });
  const authorization = await wallet.signAuthorization({ contractAddress: store, executor: "self" });
  await include("delegation", { to: rich.address, data: words(5, 7), authorizationList: [authorization], ...fixed });
  // sha256, ecrecover, modexp, the pairing, P256VERIFY: what a block of real life calls.
  for (const n of [1, 2, 5, 6, 8, 9, 0x0a, 0x0b, 0x100]) {
    const to = `0x${n.toString(16).padStart(40, "0")}`;
    await include(`precompile ${n}`, { to, data: words(1, 2, 3), ...fixed }, n === 0x0a || n === 0x0b || n === 9 || n === 6 || n === 8 || n === 5 ? undefined : "success").catch(() => undefined);
  }

  // From the layer 1: a deposit that works, and one that has nothing to send.
  const portal = JSON.parse(readFileSync(join(network, "rollup.json"), "utf8")).deposit_contract_address;
  const abi = parseAbi(["function depositTransaction(address to, uint256 value, uint64 gasLimit, bool isCreation, bytes data) payable"]);
  const l1Chain = { ...layer2(l1), id: Number(await ask(l1, "eth_chainId")), rpcUrls: { default: { http: [l1] } } };
  const depositor = createWalletClient({ account: batcher, chain: l1Chain, transport: http() });
  const before = await client.getBlockNumber();
  for (const [value, data] of [[0n, words(6, 7)], [5n, words(6, 8)]]) {
    const args = [store, value, 200_000n, false, data];
    await depositor.writeContract({ account: owner, address: portal, abi, functionName: "depositTransaction", args });
  }
  const deposits = await until("two deposits", 60, async () => {
    const found = [];
    for (let n = before; n <= (await client.getBlockNumber()); n++) {
      const block = await ask(ours.url, "eth_getBlockReceipts", toHex(n));
      found.push(...block.filter(({ type, transactionIndex }) => type === "0x7e" && transactionIndex !== "0x0"));
    }
    return found.length >= 2 && found;
  });
  assert.deepEqual(deposits.map(({ status }) => status), ["0x1", "0x0"]);

  // Blocks that are not nearly empty.
  for (let round = 0; round < 10; round++) {
    const nonce = await client.getTransactionCount({ address: rich.address });
    const hashes = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        wallet.sendTransaction({ nonce: nonce + n, to: store, data: words(round * 20 + n, n % 3), ...fixed }),
      ),
    );
    await client.waitForTransactionReceipt({ hash: hashes.at(-1), timeout: 30_000 });
  }

  const head = Number(await client.getBlockNumber());
  await until("the safe head", 120, async () => {
    assert.equal(batching.child.exitCode, null, batching.err);
    const status = await ask(ours.url, "optimism_syncStatus");
    return status.safe_l2.number >= head;
  });
  for (let n = 0; n <= head; n++) {
    const hash = async (url) => (await ask(url, "eth_getBlockByNumber", toHex(n), false))?.hash;
    assert.equal(await hash(theirs.url), await hash(ours.url), `block ${n}`);
  }
  console.log(`       ${head} blocks, ${Object.keys(sent).length + 202} transactions`);
});

check("op-reth takes every block that a verifier derives from nothing", async () => {
  const other = await opReth("other");
  const said = execFileSync(
    setting("OPENLEDGER"),
    [
      ...["verifier", ...on(l1), "--data-dir", join(folder, "verifier"), "--rpc", "127.0.0.1:0", "--once", "--json"],
      ...["--execution-client", other.engine, "--jwt-secret", jwt],
    ],
    { encoding: "utf8", timeout: 300_000 },
  );
  const { number, hash } = JSON.parse(said);
  const block = (url) => ask(url, "eth_getBlockByNumber", toHex(number), true);
  assert.equal((await block(other.url)).hash, hash);
  assert.deepEqual(await block(other.url), await block(ours.url));
  console.log(`       ${number} blocks derived`);
});

try {
  await runCases();
} finally {
  clear();
}
