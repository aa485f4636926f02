// A disk that fills up under a sequencer: blocks stop, reads go on, and when there is room again so
// does the chain, without a restart and with every transaction that was accepted.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { createPublicClient, createWalletClient, http, parseEther } from "viem";

import { accounts, answer, anvil, clear, deploy, folder, interrupt, layer2, limitFiles, role, roleWithLimits } from "./roles.mjs";
import { check, runCases, setting, until } from "./support.mjs";

check("a full disk stops blocks and nothing else, until there is room", async () => {
  const l1 = await anvil();
  const dir = (part) => join(folder, "disk", part);
  deploy(l1, dir("network"));
  const args = ["sequencer", "--l1", l1, "--network", dir("network"), "--l1-beacon", l1, "--data-dir", dir("sequencer"), "--rpc", "127.0.0.1:0"];
  let sequencer = await roleWithLimits(...args);
  const connect = () => {
    const chain = layer2(sequencer.url);
    const client = createPublicClient({ chain, transport: http(), pollingInterval: 100 });
    return { client, wallet: createWalletClient({ account: accounts.rich, chain, transport: http() }) };
  };
  let { client, wallet } = connect();
  const pay = () => wallet.sendTransaction({ to: accounts.owner.address, value: parseEther("2") });
  const before = await client.waitForTransactionReceipt({ hash: await pay(), timeout: 30_000 });

  limitFiles(sequencer, 65_536);
  const failures = () => sequencer.err.split("no block could be made").length - 1;
  await until("a block that cannot be written", 30, () => failures() > 0 && /File too large/.test(sequencer.err));
  const head = await client.getBlock();
  const waiting = await pay();
  const [seen, balance] = [failures(), await client.getBalance({ address: accounts.owner.address })];
  await until("more of them", 60, () => failures() > seen + 1);
  // What there was is there, and nothing came to it.
  assert.equal((await client.getBlock()).hash, head.hash);
  assert.equal(await client.getBalance({ address: accounts.owner.address }), balance);
  assert.equal((await client.getTransactionReceipt({ hash: before.transactionHash })).blockHash, before.blockHash);
  assert.equal((await answer(sequencer.url, "eth_getTransactionReceipt", waiting)).result, null);
  assert.equal(sequencer.child.exitCode, null);

  limitFiles(sequencer, "unlimited");
  const after = await client.waitForTransactionReceipt({ hash: waiting, timeout: 60_000 });
  assert.equal(after.status, "success");
  const next = await client.getBlock({ blockNumber: head.number + 1n });
  assert.equal(next.parentHash, head.hash);

  // What was written since is whole: it executes again, also after a restart.
  await interrupt(sequencer);
  sequencer = await role(...args);
  ({ client, wallet } = connect());
  assert.equal((await client.getTransactionReceipt({ hash: waiting })).blockHash, after.blockHash);
  assert.equal(await client.getBalance({ address: accounts.owner.address }), balance + parseEther("2"));
  const witness = dir("witness.json");
  const openledger = (...words) => execFileSync(setting("OPENLEDGER"), ["chain", ...words], { encoding: "utf8" });
  openledger("witness", "--block", `${after.blockNumber}`, "--rpc", sequencer.url, "--out", witness);
  assert.equal(JSON.parse(openledger("replay", "--witness", witness, "--json")).hash, after.blockHash);
  await interrupt(sequencer);
});

try {
  await runCases();
} finally {
  clear();
}
