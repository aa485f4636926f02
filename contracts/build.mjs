// Chores of the contracts: `node build.mjs build | check | test | snapshot | fmt`.
//
// build     compiles src/ and writes abi/<Name>.json {abi, bytecode, deployedBytecode}
// check     compiles and compares with abi/; exits 1 on a difference
// test      runs forge: unit, fuzz and invariant tests, then gas against snapshots/
// snapshot  rewrites snapshots/
// fmt       formats the sources (`fmt --check` only looks)
//
// The Rust build reads abi/ only, so it needs neither node nor a Solidity compiler.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const abiDir = join(root, "abi");

/** What is deployed, or called through; libraries and types are compiled into these. */
const contracts = {
  AccessManager: "@openzeppelin/contracts/access/manager/AccessManager.sol",
  CommonsVault: "src/CommonsVault.sol",
  ContributionAnchor: "src/ContributionAnchor.sol",
  DatanetRegistry: "src/DatanetRegistry.sol",
  InferenceSettlement: "src/InferenceSettlement.sol",
  ModelRegistry: "src/ModelRegistry.sol",
  ProtocolParameters: "src/ProtocolParameters.sol",
  DataAvailabilityChallenge: "src/l1/DataAvailabilityChallenge.sol",
  DisputeGameFactory: "src/l1/DisputeGameFactory.sol",
  OpenBridge: "src/l1/OpenBridge.sol",
  OpenToken: "src/l1/OpenToken.sol",
  OptimismPortal: "src/l1/OptimismPortal.sol",
  OutputGame: "src/l1/OutputGame.sol",
  SystemConfig: "src/l1/SystemConfig.sol",
  FeeVault: "src/l2/FeeVault.sol",
  GasPriceOracle: "src/l2/GasPriceOracle.sol",
  L1Block: "src/l2/L1Block.sol",
  L2ToL1MessagePasser: "src/l2/L2ToL1MessagePasser.sol",
  LiquidityController: "src/l2/LiquidityController.sol",
  NativeAssetLiquidity: "src/l2/NativeAssetLiquidity.sol",
  OpenMinter: "src/l2/OpenMinter.sol",
  WrappedOpen: "src/l2/WrappedOpen.sol",
};

function fail(message) {
  console.error(`contracts: ${message}`);
  process.exit(1);
}

function readSource(path) {
  const file = path.startsWith("@") ? join(root, "node_modules", path) : join(root, path);
  return readFileSync(file, "utf8");
}

function sources(folder) {
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith(".sol"))
    .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
    .sort();
}

async function compile() {
  if (!existsSync(join(root, "node_modules", "solc"))) {
    fail("node_modules is missing; run `npm --prefix contracts ci`");
  }
  const { default: solc } = await import("solc");
  const names = [...sources("src"), ...Object.values(contracts).filter((path) => path.startsWith("@"))];
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(names.map((name) => [name, { content: readSource(name) }])),
    // The same settings as foundry.toml.
    settings: {
      evmVersion: "prague",
      optimizer: { enabled: true, runs: 200 },
      metadata: { bytecodeHash: "none", appendCBOR: false },
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  };
  const findImport = (path) => {
    try {
      return { contents: readSource(path) };
    } catch (error) {
      return { error: String(error) };
    }
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));
  const problems = (output.errors ?? []).filter((e) => {
    const ours = !e.sourceLocation?.file.startsWith("@");
    return e.severity === "error" || (ours && !/^Unused|SPDX/.test(e.message));
  });
  problems.forEach((e) => console.error(e.formattedMessage));
  if (problems.some((e) => e.severity === "error")) process.exit(1);

  const artifacts = {};
  for (const [name, path] of Object.entries(contracts)) {
    const contract = output.contracts[path][name];
    artifacts[name] = {
      abi: contract.abi,
      bytecode: `0x${contract.evm.bytecode.object}`,
      deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
    };
    const size = contract.evm.deployedBytecode.object.length / 2;
    if (size > 24576) fail(`${name} is ${size} bytes, above the limit of 24576 (EIP-170)`);
  }
  return artifacts;
}

const render = (artifact) => `${JSON.stringify(artifact, null, 1)}\n`;

async function build() {
  const artifacts = await compile();
  rmSync(abiDir, { recursive: true, force: true });
  mkdirSync(abiDir);
  for (const [name, artifact] of Object.entries(artifacts)) {
    writeFileSync(join(abiDir, `${name}.json`), render(artifact));
    console.log(`${name}: ${(artifact.deployedBytecode.length - 2) / 2} bytes`);
  }
}

async function check() {
  const artifacts = await compile();
  const committed = existsSync(abiDir) ? readdirSync(abiDir).sort() : [];
  const stale = Object.entries(artifacts)
    .filter(([name, artifact]) => {
      const file = join(abiDir, `${name}.json`);
      return !existsSync(file) || readFileSync(file, "utf8") !== render(artifact);
    })
    .map(([name]) => `${name}.json`);
  const unknown = committed.filter((file) => !(file.replace(/\.json$/, "") in artifacts));
  if (stale.length + unknown.length > 0) {
    fail(`abi/ differs from the sources: ${[...stale, ...unknown].join(", ")}; run \`npm --prefix contracts run build\``);
  }
  console.log(`abi/ is what the sources compile to (${Object.keys(artifacts).length} contracts)`);
}

/** The native binary: npm's launcher script exits 0 even when a test fails. */
function forgeBinary() {
  const arch = { x64: "amd64", arm64: "arm64" }[process.arch];
  const file = join(root, "node_modules", "@foundry-rs", `forge-${process.platform}-${arch}`, "bin", "forge");
  if (!existsSync(file)) fail(`no forge at ${relative(root, file)}; run \`npm --prefix contracts ci\``);
  return file;
}

function forge(args, environment = {}) {
  const run = spawnSync(forgeBinary(), args, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, FOUNDRY_DISABLE_NIGHTLY_WARNING: "1", ...environment },
  });
  if (run.error) fail(run.error.message);
  if (run.status !== 0) process.exit(run.status ?? 1);
}

const [command, ...rest] = process.argv.slice(2);
switch (command) {
  case "build":
    await build();
    break;
  case "check":
    await check();
    break;
  case "test":
    forge(["test", "--no-match-contract", "GasTest", ...rest]);
    // Gas is measured a transaction a call, and compared with snapshots/.
    forge(["test", "--match-contract", "GasTest", "--isolate"], { FORGE_SNAPSHOT_CHECK: "true" });
    break;
  case "snapshot":
    forge(["test", "--match-contract", "GasTest", "--isolate"], { FORGE_SNAPSHOT_CHECK: "false" });
    break;
  case "fmt":
    forge(["fmt", ...rest]);
    break;
  default:
    fail("usage: node build.mjs build | check | test | snapshot | fmt");
}
