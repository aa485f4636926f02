// The dev chain's wallets. Their keys follow from public strings (crates/node/src/wallets.rs), so
// any program can use them; they are worth nothing elsewhere.
import { keccak256, toBytes } from "viem";

export const DEV_CHAIN_ID = 901337;

/** The private key of a role: `faucet`, `payer`, `operator`, ... */
export const roleKey = (role) => keccak256(toBytes(`openledger dev role ${DEV_CHAIN_ID} ${role}`));
