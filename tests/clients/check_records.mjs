// The worked values of docs/protocol/records.md, recomputed with viem: an implementation of ABI,
// EIP-712 and keccak256 that shares no code with ours.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { concat, encodeAbiParameters, hashTypedData, keccak256, parseAbiParameters, toHex, zeroHash } from "viem";

import { check, root, runCases } from "./support.mjs";

const document = readFileSync(join(root, "docs/protocol/records.md"), "utf8");
const worked = JSON.parse(document.split("## Worked values")[1].match(/```json\n([\s\S]*?)```/)[1]);

const contribution = parseAbiParameters(
  "(uint16 version, uint64 chainId, uint64 datanet, address contributor, bytes32 contentRoot, uint64 size, string licence, uint64 nonce, uint64 commitBlock)",
);
const trainingRun = parseAbiParameters(
  "(uint16 version, uint64 chainId, bytes32 base, bytes32 tokenizer, bytes32[] datasets, bytes32 recipe, string codeVersion, bytes32[] checkpoints, bytes32 metrics, uint8 mode)",
);
const claim = parseAbiParameters(
  "(uint16 version, uint64 chainId, address earner, uint128 cumulative, uint64 epoch)",
);

const leaf = (data) => keccak256(concat(["0x00", data]));
const node = (left, right) => keccak256(concat(["0x01", left, right]));

/** Root over leaves padded with zero words to a power of two. */
function merkleRoot(leaves) {
  let level = [...leaves];
  while (level.length & (level.length - 1)) level.push(zeroHash);
  while (level.length > 1) {
    level = level.flatMap((hash, i) => (i % 2 === 0 ? [node(hash, level[i + 1])] : []));
  }
  return level[0] ?? zeroHash;
}

function contentRoot(bytes) {
  const chunks = [];
  for (let at = 0; at < bytes.length; at += 1024) chunks.push(leaf(toHex(bytes.subarray(at, at + 1024))));
  return merkleRoot(chunks);
}

check("worked values: content root", () => {
  assert.equal(contentRoot(new TextEncoder().encode(worked.content.text)), worked.content.contentRoot);
  const long = new TextEncoder().encode("a".repeat(worked.longContent.repeatedA));
  assert.equal(contentRoot(long), worked.longContent.contentRoot);
});

check("worked values: Contribution digest", () => {
  const { fields, digest } = worked.contribution;
  assert.equal(keccak256(encodeAbiParameters(contribution, [fields])), digest);
  assert.equal(fields.contentRoot, worked.content.contentRoot);
});

check("worked values: Contribution signing hash (EIP-712)", () => {
  const { fields, signingHash, verifyingContract } = worked.contribution;
  const hash = hashTypedData({
    domain: { name: "OpenLedger", version: "1", chainId: fields.chainId, verifyingContract },
    types: { Contribution: contribution[0].components },
    primaryType: "Contribution",
    message: fields,
  });
  assert.equal(hash, signingHash);
});

check("worked values: TrainingRun digest", () => {
  const { fields, digest } = worked.trainingRun;
  assert.equal(keccak256(encodeAbiParameters(trainingRun, [fields])), digest);
});

check("worked values: Claim digest", () => {
  const { fields, digest } = worked.claim;
  const exact = { ...fields, cumulative: BigInt(fields.cumulative) };
  assert.equal(keccak256(encodeAbiParameters(claim, [exact])), digest);
});

check("worked values: earners' root", () => {
  const leaves = worked.earners.leaves.map(([account, cumulative]) =>
    leaf(encodeAbiParameters(parseAbiParameters("address, uint128"), [account, BigInt(cumulative)])),
  );
  assert.equal(merkleRoot(leaves), worked.earners.root);
});

check("worked values: digest of tokens", () => {
  const bytes = new Uint8Array(new Uint32Array(worked.tokens.list).buffer);
  assert.equal(keccak256(bytes), worked.tokens.digest);
});

await runCases();
