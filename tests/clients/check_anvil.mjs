// Somebody else's layer 1: the roles as processes of their own on anvil, and a verifier that starts
// from nothing and ends up with the sequencer's chain.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createServer } from "node:http";
import { join } from "node:path";
import { createPublicClient, createWalletClient, http, parseEther } from "viem";

import { accounts, anvil, ask, clear, deploy, folder, freePort, interrupt, keyFile, layer2, role, start } from "./roles.mjs";
import { check, runCases, setting, until } from "./support.mjs";

/** `l1` as the batcher sees it: it takes no blobs while `refuses.blobs`. */
async function picky(l1, refuses) {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { id, method, params } = JSON.parse(body);
    // A blob transaction on its way begins with its type, 3.
    const refused = refuses.blobs && method === "eth_sendRawTransaction" && params[0].startsWith("0x03");
    const answer = refused
      ? JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32000, message: "transaction type not supported" } })
      : await (await fetch(l1, { method: "POST", headers: { "content-type": "application/json" }, body })).text();
    response.setHeader("content-type", "application/json").end(answer);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

/** What the layer 1 says that transactions cost, blobs and all. */
async function cost(l1, hashes) {
  let sum = 0n;
  for (const hash of hashes) {
    const receipt = await ask(l1, "eth_getTransactionReceipt", hash);
    sum += BigInt(receipt.gasUsed) * BigInt(receipt.effectiveGasPrice);
    if (receipt.blobGasUsed) sum += BigInt(receipt.blobGasUsed) * BigInt(receipt.blobGasPrice);
  }
  return sum;
}

/**
 * A network with these options of `l1 deploy`, `batcher` and `verifier`; gives what the batcher did.
 * `through` gives the batcher's way to the layer 1, `meanwhile` happens once the first transactions are
 * safe.
 */
async function story(
  name,
  { da, deployOptions, batcherOptions = [], verifierOptions = () => [], through = (l1) => l1, meanwhile },
) {
  const l1 = await anvil();
  const dir = (part) => join(folder, name, part);
  const { owner, rich } = accounts;
  deploy(l1, dir("network"), deployOptions);
  const on = ["--l1", l1, "--network", dir("network")];
  const beacon = verifierOptions(l1);
  const port = await freePort();
  const serveData = () => role("da", "--data-dir", dir("da"), "--listen", `127.0.0.1:${port}`);
  let data = da ? await serveData() : undefined;
  const where = data ? ["--da", data.url] : [];
  const sequencer = await role(
    ...["sequencer", ...on, ...where, ...beacon, "--data-dir", dir("sequencer"), "--rpc", "127.0.0.1:0"],
  );
  const batching = start(setting("OPENLEDGER"), [
    ...["batcher", "--l1", await through(l1), "--network", dir("network"), ...where],
    ...["--l2", sequencer.url, "--key-file", keyFile("batcher")],
    ...["--max-channel-duration", "2", ...batcherOptions],
  ]);

  const chain = layer2(sequencer.url);
  const client = createPublicClient({ chain, transport: http(), pollingInterval: 100 });
  const wallet = createWalletClient({ account: rich, chain, transport: http() });
  /** A transaction whose block is safe; gives its number. */
  const settle = async () => {
    const hash = await wallet.sendTransaction({ to: owner.address, value: parseEther("2") });
    const receipt = await client.waitForTransactionReceipt({ hash, timeout: 30_000 });
    assert.equal(receipt.status, "success");
    await until("the safe head", 120, async () => {
      assert.equal(batching.child.exitCode, null, batching.err);
      const status = await ask(sequencer.url, "optimism_syncStatus");
      return BigInt(status.safe_l2.number) >= receipt.blockNumber;
    }).catch((error) => {
      throw new Error(`${error.message}; batcher:\n${batching.err}\nsequencer:\n${sequencer.err}`);
    });
    return receipt.blockNumber;
  };
  let last = 0n;
  for (let n = 1; n <= 3; n++) last = await settle();
  await meanwhile?.({
    on,
    dir,
    sequencer,
    stopData: () => interrupt(data),
    serveData: async () => (data = await serveData()),
    settle: async () => (last = await settle()),
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
  for (const batch of done.recent) {
    assert.equal(BigInt(batch.l1_fee), await cost(l1, batch.l1_transactions), JSON.stringify(batch));
  }
  return { l1, done };
}

check("a verifier on anvil reaches the sequencer's chain from nothing", async () => {
  const { done } = await story("da", { da: true });
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

check("data goes to blobs, to calldata, and back to where it belongs", async () => {
  const refuses = { blobs: false };
  const { done } = await story("fail-over", {
    da: true,
    batcherOptions: ["--blobs", "--fail-over-after", "1"],
    verifierOptions: (url) => ["--l1-beacon", url],
    through: (l1) => picky(l1, refuses),
    meanwhile: async ({ stopData, serveData, settle }) => {
      await stopData();
      await settle();
      refuses.blobs = true;
      await settle();
      await serveData();
      // The batch after the next may be the first that finds it.
      await settle();
      await settle();
    },
  });
  const targets = done.recent.map((batch) => batch.target);
  const runs = targets.filter((target, n) => target !== targets[n - 1]);
  assert.deepEqual(runs, ["da", "blobs", "calldata", "da"], targets.join(" "));
  assert.equal(done.fail_overs, targets.filter((target) => target !== "da").length);
});

check("what a verifier cannot get is demanded, and the batcher shows it", async () => {
  const { done } = await story("hashes", {
    da: true,
    deployOptions: ["--hashes"],
    meanwhile: async ({ on, dir, sequencer }) => {
      const nothing = await role("da", "--data-dir", dir("nothing"), "--listen", "127.0.0.1:0");
      const metrics = `127.0.0.1:${await freePort()}`;
      const verifier = await role(
        ...["verifier", ...on, "--da", nothing.url, "--data-dir", dir("blind"), "--rpc", "127.0.0.1:0"],
        ...["--metrics", metrics, "--state-history", "1"],
      );
      const trouble = () =>
        until("what the verifier lacks", 60, async () => {
          const { trouble } = await (await fetch(`http://${metrics}/health`)).json();
          return trouble?.match(/commitment (0x00\w{64}) in layer 1 block (\d+).* can be demanded up to/);
        });
      const demand = (commitment, block) =>
        execFileSync(
          setting("OPENLEDGER"),
          [
            ...["l1", "demand", ...on, "--key-file", keyFile("rich"), "--json"],
            ...["--commitment", commitment, "--l1-block", block],
          ],
          { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] },
        );
      const [, commitment, block] = await trouble();
      const told = JSON.parse(demand(commitment, block));
      assert.equal(told.until, told.l1Block + 1_200);
      assert.ok(BigInt(told.bond) > 0n);
      // Demanding it twice is refused by the contract, in its words.
      assert.throws(() => demand(commitment, block), /ChallengeExists.*|can be demanded once/s);
      const safe = await until("the batch that was shown", 60, async () => {
        const { safe_l2 } = await ask(verifier.url, "optimism_syncStatus");
        return safe_l2.number > 0 ? safe_l2 : undefined;
      });
      const same = await ask(sequencer.url, "eth_getBlockByNumber", `0x${safe.number.toString(16)}`, false);
      assert.equal(same.hash, safe.hash);
      // Now it lacks the next one.
      const [, , next] = await trouble();
      assert.ok(Number(next) > Number(block));
      await interrupt(verifier);
      await interrupt(nothing);
    },
  });
  assert.equal(done.shown, 1);
  assert.ok(done.recent.every(({ target, commitment }) => target === "da" && commitment.length === 68));
});

try {
  await runCases();
} finally {
  clear();
}
