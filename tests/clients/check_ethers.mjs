// ethers: the other library that wallets and pages are made with. It puts its calls into JSON-RPC batches
// and reads fees, types and errors in its own way.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  Contract,
  ContractFactory,
  JsonRpcProvider,
  Wallet,
  WebSocketProvider,
  isError,
  parseEther,
  verifyMessage,
} from "ethers";

import { DEV_CHAIN_ID, roleKey } from "./dev_wallets.mjs";
import { check, root, runCases, setting } from "./support.mjs";

const rpc = setting("OPENLEDGER_RPC");
const provider = new JsonRpcProvider(rpc, undefined, { polling: true, pollingInterval: 200 });
const faucet = new Wallet(roleKey("faucet"), provider);
const { abi, bytecode } = JSON.parse(readFileSync(join(root, "contracts/abi/WrappedOpen.json"), "utf8"));
const WRAPPED = "0x4200000000000000000000000000000000000006";

check("the network, its fees and a whole block in one batch", async () => {
  const [network, fees, block, balance] = await Promise.all([
    provider.getNetwork(),
    provider.getFeeData(),
    provider.getBlock("latest", true),
    provider.getBalance(faucet.address),
  ]);
  assert.equal(network.chainId, BigInt(DEV_CHAIN_ID));
  assert.ok(fees.maxFeePerGas > fees.maxPriorityFeePerGas && fees.gasPrice > 0n);
  assert.ok(balance > parseEther("1"));
  // Every block begins with what it knows of the layer 1, from nobody's wallet.
  assert.equal(block.prefetchedTransactions[0].from, "0xDeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001");
  for (const tag of ["safe", "finalized", "earliest", "pending"]) {
    assert.ok((await provider.getBlock(tag)) !== null, tag);
  }
});

check("transfers of all types are mined with their type", async () => {
  const wallet = Wallet.createRandom(provider);
  await (await faucet.sendTransaction({ to: wallet.address, value: parseEther("1") })).wait();
  const to = Wallet.createRandom().address;
  const { gasPrice } = await provider.getFeeData();
  const kinds = [
    { type: 0, gasPrice: gasPrice * 2n },
    { type: 1, gasPrice: gasPrice * 2n, accessList: [{ address: to, storageKeys: [] }] },
    { type: 2 },
  ];
  let spent = 0n;
  for (const kind of kinds) {
    const sent = await wallet.sendTransaction({ to, value: 5n, ...kind });
    const receipt = await sent.wait();
    assert.equal(receipt.status, 1);
    assert.equal(receipt.type, kind.type);
    assert.equal(receipt.hash, sent.hash);
    const found = await provider.getTransaction(sent.hash);
    assert.equal(found.type, kind.type);
    assert.equal(found.blockNumber, receipt.blockNumber);
    spent += receipt.fee + 5n;
  }
  assert.equal(await provider.getBalance(to), 15n);
  // On the dev chain the layer 1 takes nothing of it: what is gone is gas and value.
  assert.equal(parseEther("1") - (await provider.getBalance(wallet.address)), spent);
  assert.equal(await wallet.getNonce(), kinds.length);
});

check("a contract is deployed, called, watched, and says why it refuses", async () => {
  const factory = new ContractFactory(abi, bytecode, faucet);
  const deployed = await (await factory.deploy()).waitForDeployment();
  assert.equal(await deployed.symbol(), "WOPEN");
  const gas = await deployed.deposit.estimateGas({ value: 7n });
  const receipt = await (await deployed.deposit({ value: 7n })).wait();
  assert.ok(receipt.gasUsed <= gas, `${receipt.gasUsed} > ${gas}`);
  assert.equal(await deployed.balanceOf(faucet.address), 7n);
  const [event] = await deployed.queryFilter(deployed.filters.Deposit(faucet.address), receipt.blockNumber);
  assert.equal(event.args[1], 7n);
  assert.equal(await deployed.transfer.staticCall(Wallet.createRandom().address, 7n), true);
  // Before the deposit there is nothing, and after it not more than that.
  assert.equal(await deployed.balanceOf(faucet.address, { blockTag: receipt.blockNumber - 1 }), 0n);
  const refused = (reason) => (error) => {
    assert.ok(isError(error, "CALL_EXCEPTION"), error.code);
    const { name, args } = reason(error);
    assert.deepEqual([name, ...args], ["BalanceTooLow", 7n, 8n]);
    return true;
  };
  await assert.rejects(deployed.withdraw.staticCall(8n), refused((error) => error.revert));
  // On the way to a transaction it is the estimate that fails; ethers leaves its data to the caller.
  await assert.rejects(deployed.withdraw(8n), refused((error) => deployed.interface.parseError(error.data)));
});

check("the wrapped coin is where every OP Stack chain has it", async () => {
  const wrapped = new Contract(WRAPPED, abi, faucet);
  assert.equal(await wrapped.decimals(), 18n);
  await (await wrapped.deposit({ value: 3n })).wait();
  await (await wrapped.withdraw(3n)).wait();
});

check("blocks and logs are told over WebSocket", async () => {
  const socket = new WebSocketProvider(rpc.replace("http", "ws"));
  try {
    const wrapped = new Contract(WRAPPED, abi, socket);
    const seen = new Promise((resolve) => wrapped.once("Deposit", (...args) => resolve(args.at(-1).log)));
    const block = new Promise((resolve) => socket.once("block", resolve));
    // The subscriptions stand once the node has answered something after them.
    await socket.getBlockNumber();
    await socket.send("eth_chainId", []);
    const receipt = await (await new Contract(WRAPPED, abi, faucet).deposit({ value: 1n })).wait();
    assert.equal((await seen).transactionHash, receipt.hash);
    assert.ok((await block) > 0);
  } finally {
    await socket.destroy();
  }
});

check("what is wrong is refused with the code that ethers knows", async () => {
  const poor = Wallet.createRandom(provider);
  await assert.rejects(poor.sendTransaction({ to: faucet.address, value: 1n, gasLimit: 21_000n }), (error) =>
    isError(error, "INSUFFICIENT_FUNDS"),
  );
  await assert.rejects(
    faucet.sendTransaction({ to: poor.address, nonce: 0 }),
    (error) => isError(error, "NONCE_EXPIRED"),
  );
  const message = "who asks";
  assert.equal(verifyMessage(message, await poor.signMessage(message)), poor.address);
});

try {
  await runCases();
} finally {
  provider.destroy();
}
