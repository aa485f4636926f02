// Paying with a wallet of one's own: deposit, sign a voucher (EIP-712), ask; and everything that
// must be refused.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createPublicClient, createWalletClient, defineChain, http, parseEther } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import { DEV_CHAIN_ID, roleKey } from "./dev_wallets.mjs";
import { api, check, root, runCases, setting, summary } from "./support.mjs";

const chain = defineChain({
  id: DEV_CHAIN_ID,
  name: "OpenLedger dev",
  nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
  rpcUrls: { default: { http: [setting("OPENLEDGER_RPC")] } },
});
const client = createPublicClient({ chain, transport: http(), pollingInterval: 200 });
const abi = JSON.parse(readFileSync(join(root, "contracts/abi/InferenceSettlement.json"), "utf8")).abi;
const epochPosted = abi.find((item) => item.type === "event" && item.name === "EpochPosted");

// The settlement contract and the operator's address, from the chain: who posted the first epoch.
const [posting] = await client.getLogs({ event: epochPosted, fromBlock: 0n, toBlock: "latest" });
assert.ok(posting, "the loop posted an epoch");
const contract = posting.address;
const settler = posting.args.settler;

const faucet = createWalletClient({ account: privateKeyToAccount(roleKey("faucet")), chain, transport: http() });
const account = privateKeyToAccount(generatePrivateKey());
const wallet = createWalletClient({ account, chain, transport: http() });

const types = {
  Voucher: [
    { name: "payer", type: "address" },
    { name: "settler", type: "address" },
    { name: "maxCumulative", type: "uint128" },
    { name: "nonce", type: "uint64" },
    { name: "deadline", type: "uint64" },
  ],
};
const soon = () => BigInt(Math.floor(Date.now() / 1000) + 3600);

async function header(changes = {}, domainChanges = {}) {
  const message = { payer: account.address, settler, maxCumulative: parseEther("1"), nonce: 1n, deadline: soon(), ...changes };
  const domain = { name: "OpenLedger", version: "1", chainId: DEV_CHAIN_ID, verifyingContract: contract, ...domainChanges };
  const signature = await account.signTypedData({ domain, types, primaryType: "Voucher", message });
  // Amounts exceed what a JSON number of JavaScript holds, so the text is put together by hand.
  const voucher = `{"payer":"${message.payer}","settler":"${message.settler}","maxCumulative":${message.maxCumulative},"nonce":${message.nonce},"deadline":${message.deadline}}`;
  return Buffer.from(`{"voucher":${voucher},"signature":"${signature}"}`).toString("base64");
}

const ask = (voucher) =>
  api("/v1/chat/completions", {
    key: null,
    headers: voucher === undefined ? {} : { "x-openledger-voucher": voucher },
    body: { model: summary().adapter.id, messages: [{ role: "user", content: "What is a Datanet?" }], max_tokens: 8, temperature: 0 },
  });

/** The answer must be an error of the API's own shape. */
function refused(answer, status, code) {
  assert.equal(answer.status, status, answer.text);
  const { error } = answer.json ?? {};
  assert.ok(error?.message && error.type && "param" in error, answer.text);
  assert.equal(error.code, code, answer.text);
}

check("without key or voucher: 401", async () => refused(await ask(undefined), 401, "invalid_api_key"));

check("a voucher without a deposit: 402, and the client shall not retry", async () => {
  const answer = await ask(await header());
  refused(answer, 402, "insufficient_funds");
  assert.equal(answer.headers.get("x-should-retry"), "false");
  assert.match(answer.json.error.message, /deposit/);
});

check("deposit, sign, ask: the answer is paid from the deposit", async () => {
  const funded = await faucet.sendTransaction({ to: account.address, value: parseEther("2") });
  await client.waitForTransactionReceipt({ hash: funded });
  const hash = await wallet.writeContract({ address: contract, abi, functionName: "deposit", value: parseEther("1") });
  assert.equal((await client.waitForTransactionReceipt({ hash })).status, "success");
  const answer = await ask(await header({ nonce: 5n }));
  assert.equal(answer.status, 200, answer.text);
  const receipt = await api(`/v1/receipts/${answer.json.id}`);
  assert.equal(receipt.status, 200, receipt.text);
  assert.equal(receipt.json.receipt.payer.toLowerCase(), account.address.toLowerCase());
});

check("an older nonce: 400 stale_nonce", async () => refused(await ask(await header({ nonce: 4n })), 400, "stale_nonce"));
check("the same nonce with other content: 400 nonce_reused", async () =>
  refused(await ask(await header({ nonce: 5n, maxCumulative: parseEther("3") })), 400, "nonce_reused"));
check("a lower ceiling: 400 lower_ceiling", async () =>
  refused(await ask(await header({ nonce: 6n, maxCumulative: 1n })), 400, "lower_ceiling"));
check("past its deadline: 400 voucher_expired", async () =>
  refused(await ask(await header({ nonce: 7n, deadline: 1n })), 400, "voucher_expired"));
check("made out to somebody else: 400 wrong_settler", async () =>
  refused(await ask(await header({ nonce: 8n, settler: account.address })), 400, "wrong_settler"));
check("signed for another chain: 400 bad_signature, and the message says what is expected", async () => {
  const answer = await ask(await header({ nonce: 9n }, { chainId: 1 }));
  refused(answer, 400, "bad_signature");
});
check("signed for another contract: 400 bad_signature", async () =>
  refused(await ask(await header({ nonce: 10n }, { verifyingContract: account.address })), 400, "bad_signature"));
check("no base64, no JSON, no signature: 400 malformed_voucher", async () => {
  for (const text of ["%%%", "bm90IGpzb24=", Buffer.from('{"voucher":{}}').toString("base64")]) {
    refused(await ask(text), 400, "malformed_voucher");
  }
});
check("refused vouchers changed nothing: the good one still pays", async () => {
  const answer = await ask(await header({ nonce: 11n }));
  assert.equal(answer.status, 200, answer.text);
});

await runCases();
