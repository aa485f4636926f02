// What the program says when it cannot start: every message names the thing and the way out.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { check, root, runCases, setting } from "./support.mjs";

const scratch = mkdtempSync(join(tmpdir(), "openledger-faults-"));
let directories = 0;
const fresh = () => join(scratch, String((directories += 1)));

/** Runs `openledger dev` until it ends by itself; it must fail, soon, with these words. */
async function fails(args, ...words) {
  const child = spawn(setting("OPENLEDGER"), ["dev", "--exit-after-loop", "--l1-port", "0", "--da-port", "0", "--http-port", "0", ...args], {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk) => (said += chunk));
  const status = await new Promise((resolve) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
    child.on("exit", (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
  assert.ok(status !== null, `did not end within a minute; it said:\n${said}`);
  assert.notEqual(status, 0, `succeeded; it said:\n${said}`);
  assert.doesNotMatch(said, /panicked/, said);
  for (const word of words) assert.match(said, word, said);
}

/** A copy of the bundled base model with one thing wrong. */
function brokenBase(change) {
  const dir = fresh();
  cpSync(join(root, "bundled/base"), dir, { recursive: true });
  change(dir);
  return ["--rpc-port", "0", "--data-dir", fresh(), "--base", dir];
}

function editJson(file, edit) {
  const value = JSON.parse(readFileSync(file, "utf8"));
  edit(value);
  writeFileSync(file, JSON.stringify(value));
}

check("a taken port is named", async () => {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await fails(["--rpc-port", String(port), "--data-dir", fresh()], new RegExp(String(port)), /port|listen/i);
  server.close();
});

check("a data directory in use is named", async () => {
  // The node that the other scripts talk to holds its own.
  const data = join(setting("OPENLEDGER_SUMMARY"), "..", "data");
  await fails(["--rpc-port", "0", "--data-dir", data], /in use/i, /data-dir/);
});

check("a Datanet file that is not there is named", async () => {
  const file = join(scratch, "gone.jsonl");
  await fails(
    ["--rpc-port", "0", "--data-dir", fresh(), "--datanet", file, "--text", "a", "--contributor", "b"],
    /gone\.jsonl/,
  );
});

check("a file without one usable row is refused with the reasons", async () => {
  const file = join(scratch, "useless.jsonl");
  writeFileSync(file, Buffer.concat([Buffer.from('{"a":"x"}\nnot json\n'), Buffer.from([0xff, 0xfe, 0x0a])]));
  await fails(
    ["--rpc-port", "0", "--data-dir", fresh(), "--datanet", file, "--text", "a", "--contributor", "b"],
    /none of the 3 lines of useless\.jsonl/,
    /invalid-utf8/,
    /malformed-json/,
    /missing-column/,
  );
});

check("a base without weights names the file", async () => {
  const dir = brokenBase((base) => rmSync(join(base, "model.safetensors")));
  await fails(dir, /model\.safetensors/);
});

check("cut weights name the file", async () => {
  const dir = brokenBase((base) => truncateSync(join(base, "model.safetensors"), 1000));
  await fails(dir, /model\.safetensors/);
});

check("weights of another shape name the tensor and both shapes", async () => {
  const dir = brokenBase((base) =>
    editJson(join(base, "config.json"), (config) => {
      config.intermediate_size += 32;
    }),
  );
  await fails(dir, /model\.safetensors/, /mlp\.\w+_proj/, /\[?\d+,? ?x? ?\d+\]?.*\[?\d+,? ?x? ?\d+\]?/);
});

check("an architecture that is not ours is named", async () => {
  const dir = brokenBase((base) =>
    editJson(join(base, "config.json"), (config) => {
      config.model_type = "mamba";
      config.architectures = ["MambaForCausalLM"];
    }),
  );
  await fails(dir, /config\.json/, /mamba/i);
});

check("a broken tokenizer names the file", async () => {
  const dir = brokenBase((base) => writeFileSync(join(base, "tokenizer.json"), "{"));
  await fails(dir, /tokenizer\.json/);
});

await runCases();
rmSync(scratch, { recursive: true, force: true });
