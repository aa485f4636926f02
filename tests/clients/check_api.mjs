// The JSON API with good and bad input: what is refused, and how it is said.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

import { api, check, runCases, setting, summary, until } from "./support.mjs";

function shaped(answer, status) {
  assert.equal(answer.status, status, answer.text);
  const { error } = answer.json ?? {};
  assert.ok(error && error.message && error.type && "param" in error && error.code, answer.text);
  return error;
}

check("the sample's bad rows were refused with line and reason, the rest went on", async () => {
  const { contributions } = summary();
  const reasons = contributions.by_reason;
  assert.equal(
    contributions.rejected,
    Object.values(reasons).reduce((sum, count) => sum + count, 0),
  );
  const nets = await api("/v1/datanets");
  const { items, total } = (await api(`/v1/datanets/${nets.json.data[0].id}/rejections`)).json;
  assert.equal(total, contributions.rejected);
  const lines = new Map(items.map((item) => [item.line, item]));
  // tests/clients/tiny.jsonl: a copy, a broken line, personal data, a missing answer.
  for (const line of [21, 34, 42, 48]) {
    assert.ok(lines.has(line), `line ${line} was not refused: ${JSON.stringify(items)}`);
    assert.ok(lines.get(line).reason && lines.get(line).evidence, JSON.stringify(lines.get(line)));
  }
  assert.equal(lines.size, 4, JSON.stringify(items));
  assert.match(lines.get(21).reason, /duplicate/);
});

check("a file is judged line by line and nothing is kept", async () => {
  const content = [
    JSON.stringify({ q: "What is a tide?", a: "A tide is the rise and fall of the sea that the Moon and the Sun cause.", by: "api-desk" }),
    "{ not json",
    "",
    JSON.stringify({ q: "What is missing?", by: "api-desk" }),
    JSON.stringify({ q: 7, a: ["no text"], by: "api-desk" }),
    JSON.stringify({ q: "", a: "", by: "api-desk" }),
    JSON.stringify({ q: "aaaa", a: "a".repeat(300000), by: "api-desk" }),
  ].join("\n");
  const before = (await api("/v1/datanets")).json.data[0];
  const { status, json, text } = await api("/v1/contributions/judge", {
    body: { datanet: before.id, name: "bad.jsonl", content, text: ["q", "a"], contributor_column: "by" },
  });
  assert.equal(status, 200, text);
  assert.equal(json.accepted, 1, text);
  const verdicts = new Map(json.verdicts.map((verdict) => [verdict.line, verdict.reason]));
  assert.equal(verdicts.get(1) ?? null, null);
  for (const line of [2, 4, 5, 6, 7]) assert.ok(verdicts.get(line), `line ${line}: ${text}`);
  assert.deepEqual((await api("/v1/datanets")).json.data[0], before);
});

check("a row is contributed, anchored and found again; doing it twice changes nothing", async () => {
  const datanet = (await api("/v1/datanets")).json.data[0].id;
  const rows = () => api(`/v1/datanets/${datanet}/rows?limit=500`).then((answer) => answer.json);
  const before = await rows();
  const content = `${JSON.stringify({ question: "What is a fjord?", answer: "A fjord is a long arm of the sea between steep mountains, carved by a glacier.", contributor: "geography-desk" })}\n`;
  const judged = await api("/v1/contributions/judge", {
    body: { datanet, name: "fjord.jsonl", content, text: ["question", "answer"], contributor_column: "contributor" },
  });
  assert.equal(judged.json.accepted, 1, judged.text);
  const receipt = await api("/v1/contributions", { body: { ticket: judged.json.ticket } });
  assert.equal(receipt.status, 200, receipt.text);
  assert.equal(receipt.json.accepted, 1);
  const after = await rows();
  assert.equal(after.total, before.total + 1);
  assert.equal(after.items.at(-1).contributor, "geography-desk");
  for (const [, hash] of receipt.json.txs) {
    const tx = await api(`/v1/transactions/${hash}`);
    assert.equal(tx.json.success, true, tx.text);
  }
  const again = await api("/v1/contributions", { body: { ticket: judged.json.ticket } });
  assert.ok(again.status === 200 || again.status === 409, again.text);
  assert.equal((await rows()).total, after.total, "the same ticket counted twice");
  const copy = await api("/v1/contributions/judge", {
    body: { datanet, name: "copy.jsonl", content, text: ["question", "answer"], contributor_column: "contributor" },
  });
  assert.equal(copy.json.accepted, 0, "a copy of an anchored row was accepted");
});

check("requests that cannot be understood are answered in the API's own shape", async () => {
  shaped(await api("/v1/chat/completions", { body: "{" }), 400);
  shaped(await api("/v1/chat/completions", { body: { model: summary().adapter.id } }), 400);
  shaped(await api("/v1/chat/completions", { body: { model: summary().adapter.id, messages: "hello" } }), 400);
  shaped(await api("/v1/no-such-thing"), 404);
  shaped(await api("/v1/datanets/999999"), 404);
  shaped(await api("/v1/attributions/no-such-completion"), 404);
  shaped(await api("/v1/contributions", { body: { ticket: "no-such-ticket" } }), 404);
});

check("the header with the attribution's id comes before the attribution is ready", async () => {
  const question = { role: "user", content: "What is a Merkle tree?" };
  const answer = await api("/v1/chat/completions", {
    body: { model: summary().adapter.id, messages: [question], max_tokens: 32, temperature: 0 },
  });
  const id = answer.headers.get("x-openledger-attribution");
  assert.equal(id, answer.json.id);
  const report = await until("attribution", 120, async () => {
    const { status, json, headers } = await api(`/v1/attributions/${id}`);
    if (status === 202) assert.ok(headers.get("retry-after"));
    return status === 200 && json;
  });
  assert.equal(report.status, "ready");
  assert.match(report.verify, /^openledger /, "the command that recomputes every number");
});

check("what was earned is shown with its rows", async () => {
  const { items } = (await api("/v1/wallets?limit=500")).json;
  const paid = items.filter((item) => item.role === "contributor" && BigInt(item.earned) > 0n);
  assert.ok(paid.length > 0, "no contributor earned anything");
  // Epochs after the loop's may be settled while this runs, so the loop's lines are picked out.
  const { epoch, paid_wei } = summary().settlement;
  let ofTheLoop = 0n;
  for (const { address } of paid) {
    const wallet = (await api(`/v1/wallets/${address}`)).json;
    const amount = (lines) => lines.reduce((total, line) => total + BigInt(line.amount), 0n);
    assert.equal(amount(wallet.lines), BigInt(wallet.earned), "the lines add up to what was earned");
    assert.ok(wallet.lines.every((line) => line.row !== null));
    const earned = amount(wallet.lines.filter((line) => line.epoch <= epoch));
    assert.ok(BigInt(wallet.claimed) >= earned, "after the loop every contributor was paid");
    ofTheLoop += earned;
  }
  assert.equal(ofTheLoop, BigInt(paid_wei.contributors));
});

check("the program's own audit of the chain agrees", () => {
  const arguments_ = ["settlement", "audit", "--json", "--rpc", setting("OPENLEDGER_RPC")];
  const { status, stdout, stderr } = spawnSync(setting("OPENLEDGER"), arguments_, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.equal(JSON.parse(stdout).balanced, true);
});

check("health and metrics answer", async () => {
  assert.equal((await api("/health")).json.status, "ok");
  const metrics = await api("/metrics");
  assert.equal(metrics.status, 200);
  assert.match(metrics.text, /^# (HELP|TYPE) /m);
});

await runCases();
