#!/usr/bin/env node
// A look-alike of the native `solc` over the npm package, for forge: `--version` and
// `--standard-json`. Native compilers come from download hosts; npm is all this project needs.
import { readFileSync } from "node:fs";
import solc from "solc";

if (process.argv.includes("--version")) {
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++");
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${version}`);
} else {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
}
