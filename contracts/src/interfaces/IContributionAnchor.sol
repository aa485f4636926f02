// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Contribution} from "../types/Records.sol";

/// @notice One anchored batch of contributions.
/// @param root Merkle root; leaf data = abi.encode(contribution) ‖ signature (65 bytes).
/// @param contentsRoot Merkle root over the content roots, at the same positions; fixed by the
/// commitment, so it proves who had which text first.
struct Batch {
    bytes32 root;
    bytes32 contentsRoot;
    address submitter;
    uint64 datanet;
    bool finalised;
    uint64 commitBlock;
    uint64 count;
    uint64 slashed;
    uint64 challengeUntil;
    uint128 bondPerLeaf;
}

/// @notice One leaf of a batch, opened.
struct Evidence {
    uint64 batch;
    uint64 index;
    Contribution contribution;
    bytes signature;
    bytes32[] proof;
}

/// @notice Why a contribution was slashed.
enum Fault {
    Duplicate,
    BadSignature,
    WrongContext,
    BrokenCommitment
}

/// @title Contributions on chain: commit, anchor, challenge
/// @notice Priority is claimed by committing to the contents' root before anyone can see them; the
/// batch is anchored in a later block. Every contribution carries a bond from the submitter's pool
/// until the challenge window ends. All faults here are decided by the contract alone.
interface IContributionAnchor {
    /// @notice A claim to priority was recorded in this block.
    event Committed(bytes32 indexed commitment, address indexed by, uint64 blockNumber);
    /// @notice A batch was anchored and its bond locked.
    event Anchored(
        uint64 indexed batch,
        uint64 indexed datanet,
        address indexed submitter,
        bytes32 root,
        bytes32 contentsRoot,
        uint64 count,
        uint64 size,
        bytes32 daRef,
        uint64 commitBlock,
        uint128 bond,
        uint64 challengeUntil
    );
    /// @notice A contribution was proven faulty; its bond went half to the challenger, half burned.
    event ContributionSlashed(
        uint64 indexed batch,
        uint64 indexed index,
        address indexed challenger,
        Fault fault,
        address contributor,
        uint128 toChallenger,
        uint128 burned
    );
    /// @notice The challenge window ended; the rest of the batch's bond is free again.
    event BatchFinalised(uint64 indexed batch, uint128 unlocked);
    /// @notice Bond was added to an account's pool.
    event BondDeposited(address indexed account, uint128 amount, uint128 total);
    /// @notice Free bond was taken out.
    event BondWithdrawn(address indexed account, address to, uint128 amount, uint128 total);

    /// @notice The commitment was recorded before.
    error AlreadyCommitted(bytes32 commitment);
    /// @notice No commitment of the caller covers these contents.
    error NotCommitted(bytes32 commitment);
    /// @notice A batch must be anchored in a later block than its commitment.
    error SameBlock();
    /// @notice The commitment already has its batch.
    error AlreadyAnchored(uint64 batch);
    /// @notice A batch holds at least one contribution and a root.
    error EmptyBatch();
    /// @notice The pool has less free bond than the batch needs.
    error BondTooLow(uint256 needed, uint256 free);
    /// @notice There is no such batch.
    error NoSuchBatch(uint64 batch);
    /// @notice The window is over, or the batch was finalised.
    error BatchClosed(uint64 batch);
    /// @notice The window is still open.
    error BatchOpen(uint64 batch, uint64 until);
    /// @notice The leaf is not at this place of the batch.
    error BadProof(uint64 batch, uint64 index);
    /// @notice The content root is not at this place of what was committed.
    error BadContentsProof(uint64 batch, uint64 index);
    /// @notice The leaf was slashed before.
    error AlreadySlashed(uint64 batch, uint64 index);
    /// @notice The two contributions are not the same content in the same Datanet.
    error NotDuplicate();
    /// @notice The evidence names the later contribution as the earlier one.
    error NotEarlier();
    /// @notice The challenged leaf is in order.
    error NoFault();
    /// @notice The receiver refused the coins.
    error PaymentRefused(address to);

    /// @notice Claims priority. `commitment = keccak256(abi.encode(submitter, datanet, contentsRoot,
    /// salt))`.
    function commit(bytes32 commitment) external;

    /// @notice Anchors a batch committed before.
    /// @param count Leaves in the batch; each locks one contribution bond of the caller's pool.
    /// @param size Bytes of text in the batch.
    /// @param daRef Where the batch's contents or digests can be had.
    function anchor(
        uint64 datanet,
        bytes32 root,
        bytes32 contentsRoot,
        uint64 count,
        uint64 size,
        bytes32 daRef,
        bytes32 salt
    ) external returns (uint64 batch);

    /// @notice Frees the rest of a batch's bond after the challenge window.
    function finalise(uint64 batch) external;

    /// @notice Proves that `later` repeats the content of `earlier` in the same Datanet. Earlier
    /// means a smaller (commit block, batch, index).
    /// @param contentsProof Opens `earlier`'s content root in what its submitter committed to:
    /// without it, a thief could claim an old commitment for a text seen later.
    function challengeDuplicate(
        Evidence calldata earlier,
        bytes32[] calldata contentsProof,
        Evidence calldata later
    ) external;

    /// @notice Proves a signature that is not the contributor's (EIP-712, low s), or a leaf of
    /// another chain, Datanet, record version or commit block.
    function challengeSignature(Evidence calldata evidence) external;

    /// @notice Proves that the committed leaf at this place is another one than the content root of
    /// the contribution.
    function challengeCommitment(
        Evidence calldata evidence,
        bytes32 committedLeaf,
        bytes32[] calldata contentsProof
    ) external;

    /// @notice Adds the sent coins to the caller's bond pool.
    function depositBond() external payable;

    /// @notice Takes free bond (or a challenger's reward) out of the caller's pool.
    function withdrawBond(address to, uint128 amount) external;

    /// @notice An account's pool: everything in it, and the part that batches lock.
    function bondOf(address account) external view returns (uint128 total, uint128 locked);

    /// @notice The block of a commitment (zero: none) and its batch (zero: not anchored).
    function commitmentOf(bytes32 commitment) external view returns (uint64 blockNumber, uint64 batch);

    /// @notice A batch. Ids run from 1.
    function batchOf(uint64 batch) external view returns (Batch memory);

    /// @notice Whether a leaf was slashed.
    function isSlashed(uint64 batch, uint64 index) external view returns (bool);

    /// @notice Number of batches.
    function batches() external view returns (uint64);

    /// @notice What a contributor signs (EIP-712).
    function contributionHash(Contribution calldata contribution) external view returns (bytes32);

    /// @notice The Merkle leaf of a signed contribution.
    function leafOf(Contribution calldata contribution, bytes calldata signature)
        external
        pure
        returns (bytes32);
}
