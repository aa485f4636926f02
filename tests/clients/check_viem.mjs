// viem: the library behind most wallets and pages. Also recomputes the money from the chain alone.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import {
  createPublicClient,
  createWalletClient,
  decodeEventLog,
  defineChain,
  fromRlp,
  getContract,
  http,
  keccak256,
  parseEther,
  toRlp,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import { DEV_CHAIN_ID, roleKey } from "./dev_wallets.mjs";
import { check, root, runCases, setting, summary } from "./support.mjs";

const rpc = setting("OPENLEDGER_RPC");
const chain = defineChain({
  id: DEV_CHAIN_ID,
  name: "OpenLedger dev",
  nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
  rpcUrls: { default: { http: [rpc] } },
});
const client = createPublicClient({ chain, transport: http(), pollingInterval: 200 });
const faucet = createWalletClient({ account: privateKeyToAccount(roleKey("faucet")), chain, transport: http() });

const abis = Object.fromEntries(
  readdirSync(join(root, "contracts/abi"))
    .filter((file) => file.endsWith(".json"))
    .map((file) => [file.replace(".json", ""), JSON.parse(readFileSync(join(root, "contracts/abi", file), "utf8")).abi]),
);
const ourEvents = Object.values(abis).flat().filter((item) => item.type === "event");

/** Every event of ours from genesis to a block, decoded. */
async function events(toBlock) {
  const all = await client.getLogs({ fromBlock: 0n, toBlock });
  // The rollup's own predeploys have events of the same names; they tell another story.
  const logs = all.filter((log) => !/^0x(4200000000|4f50454e00)/i.test(log.address));
  return logs.flatMap((log) => {
    try {
      const { eventName, args } = decodeEventLog({ abi: ourEvents, data: log.data, topics: log.topics });
      return [{ eventName, args, log }];
    } catch {
      return [];
    }
  });
}

check("an EIP-1559 transfer is mined and its receipt is whole", async () => {
  const to = privateKeyToAccount(generatePrivateKey()).address;
  const hash = await faucet.sendTransaction({ to, value: parseEther("0.5") });
  const receipt = await client.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  assert.equal(receipt.type, "eip1559");
  assert.equal(await client.getBalance({ address: to }), parseEther("0.5"));
  const block = await client.getBlock({ blockHash: receipt.blockHash, includeTransactions: true });
  assert.ok(block.transactions.some((tx) => tx.hash === hash));
  assert.ok(receipt.effectiveGasPrice >= block.baseFeePerGas);
});

check("fees can be estimated", async () => {
  const fees = await client.estimateFeesPerGas();
  assert.ok(fees.maxFeePerGas > 0n);
  const history = await client.getFeeHistory({ blockCount: 4, rewardPercentiles: [50] });
  assert.ok(history.baseFeePerGas.length >= 2);
});

check("two transactions in a row keep their order", async () => {
  const account = privateKeyToAccount(generatePrivateKey());
  await client.waitForTransactionReceipt({ hash: await faucet.sendTransaction({ to: account.address, value: parseEther("1") }) });
  const wallet = createWalletClient({ account, chain, transport: http() });
  const to = faucet.account.address;
  const first = await wallet.sendTransaction({ to, value: 1n, nonce: 0 });
  const second = await wallet.sendTransaction({ to, value: 2n, nonce: 1 });
  const [a, b] = await Promise.all([first, second].map((hash) => client.waitForTransactionReceipt({ hash })));
  assert.ok(a.blockNumber < b.blockNumber || (a.blockNumber === b.blockNumber && a.transactionIndex < b.transactionIndex));
  assert.equal(await client.getTransactionCount({ address: account.address }), 2);
});

check("a state proof leads to the state root of its block", async () => {
  const { address } = faucet.account;
  const blockNumber = await client.getBlockNumber();
  const [block, proof] = await Promise.all([
    client.getBlock({ blockNumber }),
    client.getProof({ address, storageKeys: [], blockNumber }),
  ]);
  // Walk the nodes by hand: each hash must be the one its parent names, the first the root.
  let expected = block.stateRoot;
  let path = keccak256(address).slice(2);
  let value;
  for (const encoded of proof.accountProof) {
    assert.equal(keccak256(encoded), expected, "a node does not hash to what its parent names");
    const node = fromRlp(encoded, "hex");
    if (node.length === 17) {
      expected = node[Number.parseInt(path[0], 16)];
      path = path.slice(1);
    } else {
      const flag = Number.parseInt(node[0][2], 16);
      const nibbles = node[0].slice(flag & 1 ? 3 : 4);
      assert.ok(path.startsWith(nibbles));
      path = path.slice(nibbles.length);
      if (flag & 2) value = node[1];
      else expected = node[1];
    }
  }
  const quantity = (n) => (n === 0n || n === 0 ? "0x" : `0x${n.toString(16).padStart(Math.ceil(n.toString(16).length / 2) * 2, "0")}`);
  const account = toRlp([quantity(proof.nonce), quantity(proof.balance), proof.storageHash, proof.codeHash]);
  assert.equal(value, account, "the leaf is the account");
});

check("the money: in = out, from the chain alone", async () => {
  // The node goes on settling what the other scripts asked; everything here is as of one block.
  const blockNumber = await client.getBlockNumber();
  const all = await events(blockNumber);
  const named = (name) => all.filter((event) => event.eventName === name);
  const posted = named("EpochPosted");
  assert.ok(posted.length > 0, "no epoch was posted");
  const last = posted.at(-1);
  const address = last.log.address;
  const settlement = getContract({ address, abi: abis.InferenceSettlement, client });

  const fees = posted.reduce((sum, event) => sum + event.args.settlement.fees, 0n);
  assert.equal(fees, last.args.cumulativeFees, "posted fees add up");
  assert.ok(fees >= BigInt(summary().settlement.fees_wei));
  const claimed = named("Claimed").reduce((sum, event) => sum + event.args.amount, 0n);
  assert.ok(claimed <= fees, "more was claimed than earned");
  const ofTheLoop = posted
    .filter((event) => event.args.epoch <= BigInt(summary().settlement.epoch))
    .reduce((sum, event) => sum + event.args.settlement.fees, 0n);
  assert.ok(ofTheLoop > 0n && claimed >= ofTheLoop, "after the loop everything is claimed, by every earner");
  for (const [earner, amount] of byEarner(named("Claimed"))) {
    assert.equal(await settlement.read.claimedOf([earner], { blockNumber }), amount);
  }

  const deposits = named("Deposited").reduce((sum, event) => sum + event.args.amount, 0n);
  const out = named("Exited").reduce((sum, event) => sum + event.args.amount, 0n);
  const bonds = new Map(named("SettlerBonded").map((event) => [event.args.settler, event.args.amount]));
  const bonded = [...bonds.values()].reduce((sum, amount) => sum + amount, 0n);
  const held = named("PaymentHeld").reduce((sum, event) => sum + event.args.amount, 0n);
  const withdrawn = named("Withdrawn").reduce((sum, event) => sum + event.args.amount, 0n);
  const balance = await client.getBalance({ address, blockNumber });
  assert.equal(balance, deposits - out - claimed + held - withdrawn + bonded, "the contract holds what its events say");
  assert.ok(deposits >= fees, "fees are covered by deposits");
});

function byEarner(claims) {
  const sums = new Map();
  for (const { args } of claims) sums.set(args.earner, (sums.get(args.earner) ?? 0n) + args.amount);
  return sums;
}

check("no row, prompt or answer is on the chain", async () => {
  const rows = readFileSync(join(root, "tests/clients/tiny.jsonl"), "utf8")
    .split("\n")
    .flatMap((line) => {
      try {
        const { question, answer } = JSON.parse(line);
        return [question, answer].filter((text) => typeof text === "string");
      } catch {
        return [];
      }
    });
  assert.ok(rows.length > 80);
  const needles = rows.map((text) => Buffer.from(text.slice(0, 24)).toString("hex"));
  const head = await client.getBlockNumber();
  let transactions = 0;
  for (let number = 0n; number <= head; number += 1n) {
    const block = await client.getBlock({ blockNumber: number, includeTransactions: true });
    for (const tx of block.transactions) {
      transactions += 1;
      const found = needles.find((needle) => tx.input.includes(needle));
      assert.equal(found, undefined, `transaction ${tx.hash} carries the text of a row`);
    }
  }
  assert.ok(transactions >= summary().chain.txs - Number(head));
});

await runCases();
