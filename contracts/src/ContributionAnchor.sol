// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";

import {Batch, Evidence, Fault, IContributionAnchor} from "./interfaces/IContributionAnchor.sol";
import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {IProtocolParameters} from "./interfaces/IProtocolParameters.sol";
import {Leaf, Merkle} from "./libraries/Merkle.sol";
import {Payouts} from "./libraries/Payouts.sol";
import {RecordHash} from "./libraries/RecordHash.sol";
import {Contribution, Parameters, RECORD_VERSION} from "./types/Records.sol";

/// @title Contributions on chain: commit, anchor, challenge
/// @notice See IContributionAnchor.
contract ContributionAnchor is EIP712, IContributionAnchor {
    using BitMaps for BitMaps.BitMap;
    using RecordHash for Contribution;
    using SafeCast for uint256;

    struct Commitment {
        uint64 blockNumber;
        uint64 batch;
    }

    struct Pool {
        uint128 total;
        uint128 locked;
    }

    IProtocolParameters public immutable parameters;
    IDatanetRegistry public immutable datanets;

    /// @inheritdoc IContributionAnchor
    uint64 public batches;
    mapping(bytes32 commitment => Commitment) private _commitments;
    mapping(uint64 batch => Batch) private _batches;
    mapping(uint64 batch => BitMaps.BitMap) private _slashed;
    mapping(address account => Pool) private _pools;

    constructor(IProtocolParameters parameters_, IDatanetRegistry datanets_) EIP712("OpenLedger", "1") {
        parameters = parameters_;
        datanets = datanets_;
    }

    // --- anchoring ---

    /// @inheritdoc IContributionAnchor
    function commit(bytes32 commitment) external {
        Commitment storage entry = _commitments[commitment];
        if (entry.blockNumber != 0) revert AlreadyCommitted(commitment);
        entry.blockNumber = uint64(block.number);
        emit Committed(commitment, msg.sender, uint64(block.number));
    }

    /// @inheritdoc IContributionAnchor
    function anchor(
        uint64 datanet,
        bytes32 root,
        bytes32 contentsRoot,
        uint64 count,
        uint64 size,
        bytes32 daRef,
        bytes32 salt
    ) external returns (uint64 id) {
        if (count == 0 || root == 0) revert EmptyBatch();
        datanets.requireOpen(datanet);

        id = ++batches;
        Batch storage batch = _batches[id];
        batch.commitBlock = _useCommitment(keccak256(abi.encode(msg.sender, datanet, contentsRoot, salt)), id);
        batch.root = root;
        batch.contentsRoot = contentsRoot;
        batch.submitter = msg.sender;
        batch.datanet = datanet;
        batch.count = count;
        Parameters memory p = parameters.current();
        batch.bondPerLeaf = p.contributionBond;
        batch.challengeUntil = uint64(block.timestamp) + p.challengeWindow;
        uint128 bond = _lock(uint256(p.contributionBond) * count);
        _emitAnchored(id, batch, size, daRef, bond);
    }

    /// @inheritdoc IContributionAnchor
    function finalise(uint64 id) external {
        Batch storage batch = _batch(id);
        if (batch.finalised) revert BatchClosed(id);
        if (block.timestamp <= batch.challengeUntil) revert BatchOpen(id, batch.challengeUntil);
        batch.finalised = true;
        // At most what was locked, which was 128 bits.
        uint128 unlocked = batch.bondPerLeaf * (batch.count - batch.slashed);
        _pools[batch.submitter].locked -= unlocked;
        emit BatchFinalised(id, unlocked);
    }

    // --- challenges ---

    /// @inheritdoc IContributionAnchor
    function challengeDuplicate(
        Evidence calldata earlier,
        bytes32[] calldata contentsProof,
        Evidence calldata later
    ) external {
        Batch storage first = _open(earlier);
        Batch storage second = _challengeable(later);
        bytes32 content = earlier.contribution.contentRoot;
        if (
            first.datanet != second.datanet || earlier.contribution.datanet != first.datanet
                || later.contribution.contentRoot != content
        ) revert NotDuplicate();
        if (!_isEarlier(first, earlier, second, later)) revert NotEarlier();
        if (_slashed[earlier.batch].get(earlier.index)) revert AlreadySlashed(earlier.batch, earlier.index);
        if (!Merkle.verify(first.contentsRoot, Merkle.leaf(content), earlier.index, contentsProof)) {
            revert BadContentsProof(earlier.batch, earlier.index);
        }
        _slash(second, later, Fault.Duplicate);
    }

    /// @inheritdoc IContributionAnchor
    function challengeSignature(Evidence calldata evidence) external {
        Batch storage batch = _challengeable(evidence);
        Contribution calldata c = evidence.contribution;
        if (
            c.version != RECORD_VERSION || c.chainId != block.chainid || c.datanet != batch.datanet
                || c.commitBlock != batch.commitBlock
        ) {
            _slash(batch, evidence, Fault.WrongContext);
            return;
        }
        (address signer, ECDSA.RecoverError failure,) =
            ECDSA.tryRecover(_hashTypedDataV4(c.structHash()), evidence.signature);
        if (failure == ECDSA.RecoverError.NoError && signer == c.contributor) revert NoFault();
        _slash(batch, evidence, Fault.BadSignature);
    }

    /// @inheritdoc IContributionAnchor
    function challengeCommitment(
        Evidence calldata evidence,
        bytes32 committedLeaf,
        bytes32[] calldata contentsProof
    ) external {
        Batch storage batch = _challengeable(evidence);
        // Both trees have one leaf a contribution, so an equal height keeps an inner node from being
        // shown as the committed leaf.
        if (
            contentsProof.length != evidence.proof.length
                || Merkle.rootOf(committedLeaf, evidence.index, contentsProof) != batch.contentsRoot
        ) revert BadContentsProof(evidence.batch, evidence.index);
        if (committedLeaf == Leaf.unwrap(Merkle.leaf(evidence.contribution.contentRoot))) revert NoFault();
        _slash(batch, evidence, Fault.BrokenCommitment);
    }

    // --- bonds ---

    /// @inheritdoc IContributionAnchor
    function depositBond() external payable {
        Pool storage pool = _pools[msg.sender];
        uint128 amount = msg.value.toUint128();
        pool.total += amount;
        emit BondDeposited(msg.sender, amount, pool.total);
    }

    /// @inheritdoc IContributionAnchor
    function withdrawBond(address to, uint128 amount) external {
        Pool storage pool = _pools[msg.sender];
        uint128 free = pool.total - pool.locked;
        if (amount > free) revert BondTooLow(amount, free);
        pool.total -= amount;
        emit BondWithdrawn(msg.sender, to, amount, pool.total);
        if (!Payouts.trySend(to, amount)) revert PaymentRefused(to);
    }

    // --- views ---

    /// @inheritdoc IContributionAnchor
    function bondOf(address account) external view returns (uint128 total, uint128 locked) {
        Pool storage pool = _pools[account];
        return (pool.total, pool.locked);
    }

    /// @inheritdoc IContributionAnchor
    function commitmentOf(bytes32 commitment) external view returns (uint64 blockNumber, uint64 batch) {
        Commitment storage entry = _commitments[commitment];
        return (entry.blockNumber, entry.batch);
    }

    /// @inheritdoc IContributionAnchor
    function batchOf(uint64 id) external view returns (Batch memory) {
        return _batch(id);
    }

    /// @inheritdoc IContributionAnchor
    function isSlashed(uint64 id, uint64 index) external view returns (bool) {
        return _slashed[id].get(index);
    }

    /// @inheritdoc IContributionAnchor
    function contributionHash(Contribution calldata contribution) external view returns (bytes32) {
        return _hashTypedDataV4(contribution.structHash());
    }

    /// @inheritdoc IContributionAnchor
    function leafOf(Contribution calldata contribution, bytes calldata signature)
        external
        pure
        returns (bytes32)
    {
        return Leaf.unwrap(_leaf(contribution, signature));
    }

    // --- inside ---

    /// @dev The commitment's block, marking it as used by batch `id`.
    function _useCommitment(bytes32 commitment, uint64 id) private returns (uint64 blockNumber) {
        Commitment storage entry = _commitments[commitment];
        blockNumber = entry.blockNumber;
        if (blockNumber == 0) revert NotCommitted(commitment);
        if (blockNumber == block.number) revert SameBlock();
        if (entry.batch != 0) revert AlreadyAnchored(entry.batch);
        entry.batch = id;
    }

    function _lock(uint256 bond) private returns (uint128 locked) {
        Pool storage pool = _pools[msg.sender];
        uint256 free = pool.total - pool.locked;
        if (bond > free) revert BondTooLow(bond, free);
        locked = bond.toUint128();
        pool.locked += locked;
    }

    /// @dev In a function of its own for the sake of stack depth.
    function _emitAnchored(uint64 id, Batch storage batch, uint64 size, bytes32 daRef, uint128 bond) private {
        emit Anchored(
            id,
            batch.datanet,
            batch.submitter,
            batch.root,
            batch.contentsRoot,
            batch.count,
            size,
            daRef,
            batch.commitBlock,
            bond,
            batch.challengeUntil
        );
    }

    function _batch(uint64 id) private view returns (Batch storage batch) {
        batch = _batches[id];
        if (batch.count == 0) revert NoSuchBatch(id);
    }

    function _leaf(Contribution calldata contribution, bytes calldata signature) private pure returns (Leaf) {
        return Merkle.leaf(bytes.concat(abi.encode(contribution), signature));
    }

    /// @dev The evidence's batch, after checking that the leaf stands where the evidence says.
    function _open(Evidence calldata e) private view returns (Batch storage batch) {
        batch = _batch(e.batch);
        if (
            e.index >= batch.count
                || !Merkle.verify(batch.root, _leaf(e.contribution, e.signature), e.index, e.proof)
        ) revert BadProof(e.batch, e.index);
    }

    /// @dev As `_open`, for a leaf that can still lose its bond.
    function _challengeable(Evidence calldata e) private view returns (Batch storage batch) {
        batch = _open(e);
        if (batch.finalised || block.timestamp > batch.challengeUntil) revert BatchClosed(e.batch);
        if (_slashed[e.batch].get(e.index)) revert AlreadySlashed(e.batch, e.index);
    }

    function _isEarlier(Batch storage a, Evidence calldata x, Batch storage b, Evidence calldata y)
        private
        view
        returns (bool)
    {
        if (a.commitBlock != b.commitBlock) return a.commitBlock < b.commitBlock;
        if (x.batch != y.batch) return x.batch < y.batch;
        return x.index < y.index;
    }

    function _slash(Batch storage batch, Evidence calldata e, Fault fault) private {
        _slashed[e.batch].set(e.index);
        batch.slashed += 1;
        uint128 bond = batch.bondPerLeaf;
        uint128 reward = bond / 2;
        uint128 burned = bond - reward;
        Pool storage loser = _pools[batch.submitter];
        loser.total -= bond;
        loser.locked -= bond;
        _pools[msg.sender].total += reward;
        emit ContributionSlashed(
            e.batch, e.index, msg.sender, fault, e.contribution.contributor, reward, burned
        );
        if (burned > 0 && !Payouts.trySend(Payouts.BURN, burned)) revert PaymentRefused(Payouts.BURN);
    }
}
