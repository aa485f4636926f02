// op-reth as the judge of the chain: it makes and checks every block of a sequencer, and of a verifier
// that starts from nothing, and answers the same questions over JSON-RPC. By hand, where there is one:
//
//   OP_RETH=op-reth OPENLEDGER=openledger ANVIL=anvil node tests/clients/op_reth.mjs
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
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
    ...["--rpc.eth-proof-window", "10000"],
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
  await include("no gas left", { to: store, data: words(2, 7), gas: 22_000n }, "reverted");
  await include("legacy", { to: store, data: words(3, 7), type: "legacy", gasPrice: parseEther("0.000000002"), ...fixed });
  const accessList = [{ address: store, storageKeys: [words(4)] }];
  await include("access list", { to: store, data: words(4, 7), type: "eip2930", accessList, gasPrice: parseEther("0.000000002"), ...fixed });
  const authorization = await wallet.signAuthorization({ contractAddress: store, executor: "self" });
  await include("delegation", { to: rich.address, data: words(5, 7), authorizationList: [authorization], ...fixed });
  // Precompiles with an input that most of them refuse: that uses all gas, and nothing else happens.
  for (const n of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 0x100]) {
    const to = `0x${n.toString(16).padStart(40, "0")}`;
    const hash = await wallet.sendTransaction({ to, data: words(1, 2, 3), ...fixed });
    sent[`precompile ${n}`] = await client.waitForTransactionReceipt({ hash, timeout: 30_000 });
  }

  // From the layer 1: a deposit that works, and one that has nothing to send.
  const portal = JSON.parse(readFileSync(join(network, "rollup.json"), "utf8")).deposit_contract_address;
  const abi = parseAbi(["function depositTransaction(address to, uint256 value, uint64 gasLimit, bool isCreation, bytes data) payable"]);
  const l1Chain = { ...layer2(l1), id: Number(await ask(l1, "eth_chainId")), rpcUrls: { default: { http: [l1] } } };
  const depositor = createWalletClient({ account: batcher, chain: l1Chain, transport: http() });
  const before = await client.getBlockNumber();
  for (const [value, data] of [[0n, words(6, 7)], [parseEther("500"), words(6, 8)]]) {
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
  const block = await ask(other.url, "eth_getBlockByNumber", toHex(number), false);
  assert.equal(block.hash, hash);
  console.log(`       ${number} blocks derived`);
});

check("op-reth takes the chain as exported payloads", async () => {
  const third = await opReth("third");
  const lines = execFileSync(setting("OPENLEDGER"), ["chain", "export", "--engine-payloads", "--rpc", ours.url], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iat: Math.floor(Date.now() / 1000) })}`;
  const secret = Buffer.from(readFileSync(jwt, "utf8"), "hex");
  const authorization = `Bearer ${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  const engine = async (body) => {
    const headers = { "content-type": "application/json", authorization };
    return (await (await fetch(third.engine, { method: "POST", headers, body })).json()).result;
  };
  let last;
  const requests = lines.trim().split("\n");
  for (const request of requests) {
    const status = await engine(request);
    assert.equal(status.status, "VALID", JSON.stringify(status));
    last = status.latestValidHash;
    const state = { headBlockHash: last, safeBlockHash: last, finalizedBlockHash: last };
    const moved = { jsonrpc: "2.0", id: 1, method: "engine_forkchoiceUpdatedV3", params: [state, null] };
    assert.equal((await engine(JSON.stringify(moved))).payloadStatus.status, "VALID");
  }
  assert.equal((await ask(third.url, "eth_getBlockByNumber", "latest", false)).hash, last);
  assert.equal((await ask(ours.url, "eth_getBlockByHash", last, false)).number, toHex(requests.length));
  console.log(`       ${requests.length} payloads`);
});

/** What a receipt of a deposit has at op-reth and not at op-geth or here: it pays nothing to the layer 1. */
const ofLayer1 = ["l1GasPrice", "l1GasUsed", "l1Fee", "l1BaseFeeScalar", "l1BlobBaseFee", "l1BlobBaseFeeScalar", "operatorFeeScalar", "operatorFeeConstant", "daFootprintGasScalar", "blobGasUsed"];

/** An answer without what is of no account. */
const comparable = (value) =>
  JSON.parse(
    JSON.stringify(value, function (key, inner) {
      // This op-reth does not tell it yet, and leaves a refund of zero away.
      if (key === "blockTimestamp" || (key === "refund" && inner === 0)) return undefined;
      if (this.type === "0x7e" && ofLayer1.includes(key)) return undefined;
      // In steps it writes storage without 0x.
      if (key === "storage" && this.pc !== undefined) {
        const bare = (text) => text.replace(/^0x/, "");
        return Object.fromEntries(Object.entries(inner).map((pair) => pair.map(bare)));
      }
      // The proof that nothing is in an empty trie has no node in EIP-1186 and geth.
      if (key === "proof" && inner.length === 1 && inner[0] === "0x80") return [];
      // geth, too, has text only for reasons that Solidity encodes.
      if (this.code === 3 && key === "message") return undefined;
      return inner;
    }),
  );

/** op-reth's estimates are up to 1.5 % above what is needed; ours are what is needed. */
const sameEstimate = (mine, other) => {
  const [a, b] = [Number(mine.result), Number(other.result)];
  return a <= b && b <= a * 1.015 + 1;
};

check("op-reth answers the same over JSON-RPC", async () => {
  const head = Number(await ask(ours.url, "eth_blockNumber"));
  const questions = [];
  const add = (method, ...params) => questions.push([method, ...params]);
  for (let n = 0; n <= head; n++) {
    const number = toHex(n);
    add("eth_getBlockByNumber", number, true);
    add("eth_getBlockReceipts", number);
    add("debug_getRawHeader", number);
    add("debug_getRawBlock", number);
    add("debug_getRawReceipts", number);
  }
  const receipts = Object.values(sent);
  for (const { transactionHash: hash, blockHash, blockNumber, transactionIndex } of receipts) {
    add("eth_getTransactionByHash", hash);
    add("eth_getTransactionReceipt", hash);
    add("eth_getRawTransactionByHash", hash);
    add("eth_getTransactionByBlockHashAndIndex", blockHash, toHex(transactionIndex));
    add("eth_getBlockByHash", blockHash, false);
    add("eth_getBlockTransactionCountByHash", blockHash);
    add("debug_traceTransaction", hash);
    add("debug_traceTransaction", hash, { tracer: "callTracer", tracerConfig: { withLog: true } });
    add("debug_traceTransaction", hash, { tracer: "prestateTracer" });
    add("debug_traceTransaction", hash, { tracer: "prestateTracer", tracerConfig: { diffMode: true } });
    add("debug_traceBlockByNumber", toHex(blockNumber), { tracer: "callTracer" });
  }
  const store = sent.creation.contractAddress;
  const revert = sent.another.contractAddress;
  const slot = words(1);
  for (const n of [1, Math.floor(head / 2), head - 1, head].map(toHex)) {
    for (const account of [rich.address, owner.address, store, "0x4200000000000000000000000000000000000015"]) {
      add("eth_getBalance", account, n);
      add("eth_getTransactionCount", account, n);
      add("eth_getCode", account, n);
      add("eth_getStorageAt", account, slot, n);
      add("eth_getProof", account, [slot, words(4), words(99)], n);
    }
    const call = { from: rich.address, to: store, data: words(9, 9) };
    add("eth_call", call, n);
    add("eth_call", { ...call, to: revert }, n);
    add("eth_estimateGas", call, n);
    add("eth_estimateGas", { ...call, to: owner.address, data: "0x", value: "0x1" }, n);
    add("eth_estimateGas", { ...call, to: revert }, n);
    add("eth_createAccessList", call, n);
    add("debug_traceCall", { ...call, gas: "0x30d40" }, n, { tracer: "callTracer" });
    add("eth_feeHistory", "0x4", n, [10, 50]);
    add("eth_getUncleCountByBlockNumber", n);
  }
  const range = { fromBlock: "0x0", toBlock: toHex(head) };
  add("eth_getLogs", { ...range, address: store });
  add("eth_getLogs", { ...range, address: store, topics: [[words(1), words(5)]] });
  add("eth_getLogs", { blockHash: sent.store.blockHash });
  add("eth_chainId");
  add("net_version");
  add("web3_sha3", "0x1234");

  const differing = new Map();
  for (const [method, ...params] of questions) {
    const [mine, other] = await Promise.all([ours.url, theirs.url].map((url) => answer(url, method, ...params)));
    if (method === "eth_estimateGas" && mine.result && other.result && sameEstimate(mine, other)) continue;
    try {
      assert.deepEqual(comparable(mine), comparable(other));
    } catch (error) {
      if (!differing.has(method)) differing.set(method, []);
      differing.get(method).push(`${JSON.stringify(params)}\n${error.message}`);
    }
  }
  console.log(`       ${questions.length} questions`);
  const told = [...differing].map(([method, cases]) => `${method}: ${cases.length}, first ${cases[0]}`);
  assert.equal(told.length, 0, told.join("\n\n"));
});

try {
  await runCases();
} finally {
  clear();
}
