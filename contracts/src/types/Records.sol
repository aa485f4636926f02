// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// The protocol's records that a contract reads
// Field by field the same as the Rust crate `openledger-primitives`; docs/protocol/records.md
// gives the meanings. A record's digest is `keccak256(abi.encode(record))` on both sides.

// Version number that every record carries.
uint16 constant RECORD_VERSION = 2;

// Arithmetic modes: exact (0), fast (1). The highest number that a record may name.
uint8 constant MAX_MODE = 1;

/// @notice One contributor's piece of text, before the network has judged it.
struct Contribution {
    uint16 version;
    uint64 chainId;
    uint64 datanet;
    address contributor;
    bytes32 contentRoot;
    uint64 size;
    string licence;
    uint64 nonce;
    uint64 commitBlock;
}

/// @notice How many rows a reason code turned away.
struct ReasonCount {
    string reason;
    uint64 count;
}

/// @notice A sealed state of a Datanet.
struct DatasetVersion {
    uint16 version;
    uint64 chainId;
    uint64 datanet;
    uint64 number;
    bytes32 parent;
    bytes32 rowsRoot;
    bytes32 clustersRoot;
    bytes32 policyHash;
    uint64 accepted;
    ReasonCount[] rejected;
}

/// @notice Everything that one tuning run depended on.
struct TrainingRun {
    uint16 version;
    uint64 chainId;
    bytes32 base;
    bytes32 tokenizer;
    bytes32[] datasets;
    bytes32 recipe;
    string codeVersion;
    bytes32[] checkpoints;
    bytes32 metrics;
    uint8 mode;
}

/// @notice A tuned adapter as registered.
struct Adapter {
    uint16 version;
    uint64 chainId;
    bytes32 run;
    bytes32 weights;
    bytes32 config;
    bytes32 sketchRoot;
    bytes32 indexRoot;
    uint64 evalLossBeforeMicro;
    uint64 evalLossAfterMicro;
    uint8 mode;
    uint128 priceIn;
    uint128 priceOut;
    address owner;
}

/// @notice One epoch's answers, fees and earnings, in constant size.
struct EpochSettlement {
    uint16 version;
    uint64 chainId;
    uint64 epoch;
    bytes32 receiptRoot;
    bytes32 reportRoot;
    bytes32 payerCumRoot;
    bytes32 earnerCumRoot;
    uint128 fees;
    uint64 receipts;
    bytes32 parameters;
    bytes32 daRef;
}

/// @notice A payer's signed ceiling of what `settler` may ever take from the deposit.
struct Voucher {
    address payer;
    address settler;
    uint128 maxCumulative;
    uint64 nonce;
    uint64 deadline;
}

/// @notice What governance sets; all fields are static, so `abi.encode` gives one word a field.
struct Parameters {
    uint16 contributorsBps;
    uint16 operatorBps;
    uint16 modelOwnerBps;
    uint16 stakersBps;
    uint16 treasuryBps;
    uint16 spanBps;
    uint16 minSpanTokens;
    uint32 minSpanMillibits;
    uint16 noiseQuantileBps;
    uint32 lambda;
    uint128 dustFloor;
    uint64 challengeWindow;
    uint128 contributionBond;
    uint128 registrationFee;
    uint128 datanetFee;
}
