// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IEpochClock} from "./interfaces/IEpochClock.sol";
import {
    ClaimItem,
    Demand,
    DisableReason,
    IInferenceSettlement,
    Payer,
    Posting,
    SettlerBond
} from "./interfaces/IInferenceSettlement.sol";
import {IProtocolParameters} from "./interfaces/IProtocolParameters.sol";
import {Merkle} from "./libraries/Merkle.sol";
import {Payouts} from "./libraries/Payouts.sol";
import {RecordHash} from "./libraries/RecordHash.sol";
import {EpochSettlement, RECORD_VERSION, Voucher} from "./types/Records.sol";

/// @title Paying for inference without a transaction per answer
/// @notice See IInferenceSettlement.
/// @dev Epochs are final in order. `_finalEpoch < epoch < _openEpoch` are pending. Roots are
/// cumulative, so withdrawing an epoch withdraws all after it, which is one write: `_openEpoch`
/// falls back to it. Functions follow checks-effects-interactions; coins leave last.
contract InferenceSettlement is AccessManaged, EIP712, IInferenceSettlement {
    using RecordHash for Voucher;
    using SafeCast for uint256;

    /// @notice Postings kept in storage. Slots are reused, so a posting costs the same for ever.
    uint64 public constant RING = 256;

    IProtocolParameters public immutable parameters;
    /// @notice Bond that a settler needs to post, and loses by a proven fault.
    uint128 public immutable settlerBond;
    /// @notice Bond of a demand to see a voucher.
    uint128 public immutable demandBond;
    /// @notice Seconds that a payer's exit leaves the settler for posting the last debits.
    uint64 public immutable exitDelay;
    /// @notice Unix seconds after which the guardian can do nothing.
    uint64 public immutable guardianSunset;

    uint64 private _openEpoch = 1;
    uint64 private _finalEpoch;
    uint32 private _sequence;

    uint128 private _deposits;
    uint128 private _exits;
    uint128 private _claims;
    uint128 private _bonds;
    uint128 private _held;

    mapping(uint64 slot => Posting) private _ring;
    mapping(address payer => Payer) private _payers;
    mapping(address settler => SettlerBond) private _settlers;
    mapping(address earner => uint128) private _claimed;
    mapping(address account => uint128) private _heldOf;
    mapping(uint32 sequence => mapping(address payer => Demand)) private _demands;

    constructor(
        address authority,
        IProtocolParameters parameters_,
        uint128 settlerBond_,
        uint128 demandBond_,
        uint64 exitDelay_,
        uint64 guardianSunset_
    ) AccessManaged(authority) EIP712("OpenLedger", "1") {
        if (address(parameters_.clock()) != address(this)) revert WrongClock();
        parameters = parameters_;
        settlerBond = settlerBond_;
        demandBond = demandBond_;
        exitDelay = exitDelay_;
        guardianSunset = guardianSunset_;
    }

    // --- payers ---

    /// @inheritdoc IInferenceSettlement
    function deposit() external payable {
        _deposit(msg.sender);
    }

    /// @inheritdoc IInferenceSettlement
    function depositFor(address payer) external payable {
        _deposit(payer);
    }

    /// @inheritdoc IInferenceSettlement
    function requestExit() external {
        _payers[msg.sender].exitRequestedAt = uint64(block.timestamp);
        emit ExitRequested(msg.sender, uint64(block.timestamp) + exitDelay);
    }

    /// @inheritdoc IInferenceSettlement
    function exit(uint128 cumulative, uint64 index, bytes32[] calldata proof) external {
        _requireExitable(_payers[msg.sender].exitRequestedAt, exitDelay);
        _requirePayerLine(msg.sender, cumulative, index, proof);
        _exit(cumulative);
    }

    /// @inheritdoc IInferenceSettlement
    function exitUnspent() external {
        if (_payers[msg.sender].charged) revert PayerWasCharged();
        _requireExitable(_payers[msg.sender].exitRequestedAt, 2 * exitDelay);
        _exit(0);
    }

    /// @inheritdoc IInferenceSettlement
    function contestExit(address payer, uint128 cumulative, uint64 index, bytes32[] calldata proof) external {
        _requirePayerLine(payer, cumulative, index, proof);
        if (cumulative == 0) revert BadAmount();
        _payers[payer].charged = true;
        emit ExitContested(payer, _finalEpoch, cumulative);
    }

    // --- settler ---

    /// @inheritdoc IInferenceSettlement
    function bond() external payable {
        SettlerBond storage entry = _settlers[msg.sender];
        uint128 amount = msg.value.toUint128();
        entry.amount += amount;
        _bonds += amount;
        emit SettlerBonded(msg.sender, entry.amount);
    }

    /// @inheritdoc IInferenceSettlement
    function unbond(uint128 amount) external {
        SettlerBond storage entry = _settlers[msg.sender];
        if (entry.amount < amount) revert BondTooLow(entry.amount, amount);
        if (entry.lastEpoch > _finalEpoch && _finalEpoch + 1 < _openEpoch) {
            revert BondLocked(entry.lastEpoch);
        }
        entry.amount -= amount;
        _bonds -= amount;
        emit SettlerBonded(msg.sender, entry.amount);
        _send(msg.sender, amount);
    }

    /// @inheritdoc IInferenceSettlement
    function post(EpochSettlement calldata settlement) external restricted {
        SettlerBond storage settler = _settlers[msg.sender];
        if (settler.amount < settlerBond) revert BondTooLow(settler.amount, settlerBond);
        if (_isFinalisable()) _finalise();

        uint64 epoch = _openEpoch;
        if (settlement.version != RECORD_VERSION) revert BadSettlement("version");
        if (settlement.chainId != block.chainid) revert BadSettlement("chainId");
        if (settlement.epoch != epoch) revert BadSettlement("epoch");
        (bytes32 terms, uint64 window) = parameters.termsAt(epoch);
        if (settlement.parameters != terms) revert BadSettlement("parameters");
        if (epoch - _finalEpoch >= RING) revert TooManyPending();

        uint128 fees = (uint256(_feesAt(epoch - 1)) + settlement.fees).toUint128();
        uint128 funds = _deposits - _exits;
        if (fees > funds) revert FeesExceedDeposits(fees, funds);

        uint64 until = uint64(block.timestamp) + window;
        uint32 sequence = ++_sequence;
        _openEpoch = epoch + 1;
        settler.lastEpoch = epoch;
        _ring[epoch % RING] = Posting({
            payerCumRoot: settlement.payerCumRoot,
            earnerCumRoot: settlement.earnerCumRoot,
            cumulativeFees: fees,
            epoch: epoch,
            challengeUntil: until,
            settler: msg.sender,
            postedAt: uint48(block.timestamp),
            sequence: sequence,
            openDemands: 0
        });
        emit EpochPosted(
            epoch, msg.sender, keccak256(abi.encode(settlement)), settlement, fees, until, sequence
        );
    }

    /// @inheritdoc IInferenceSettlement
    function finalise() external {
        if (_finalEpoch + 1 == _openEpoch) revert NotPending(_openEpoch);
        if (!_isFinalisable()) revert WindowOpen(_finalEpoch + 1);
        _finalise();
    }

    // --- challengers and guardian ---

    /// @inheritdoc IInferenceSettlement
    function disable(uint64 epoch) external restricted {
        if (block.timestamp > guardianSunset) revert GuardianSunset();
        _pendingInWindow(epoch);
        _disable(epoch, DisableReason.Guardian);
    }

    /// @inheritdoc IInferenceSettlement
    function challengeOverdraft(
        uint64 epoch,
        address payer,
        uint128 cumulative,
        uint64 index,
        bytes32[] calldata proof
    ) external {
        Posting storage posting = _pendingInWindow(epoch);
        _requireLine(posting.payerCumRoot, payer, cumulative, index, proof);
        uint128 balance = _balance(payer);
        if (cumulative <= balance) revert NoOverdraft(cumulative, balance);
        _disable(epoch, DisableReason.Overdraft);
        _slash(posting.settler, msg.sender);
    }

    /// @inheritdoc IInferenceSettlement
    function demandVoucher(
        uint64 epoch,
        address payer,
        uint128 cumulative,
        uint64 index,
        bytes32[] calldata proof
    ) external payable {
        if (msg.value != demandBond || cumulative == 0) revert BadAmount();
        Posting storage posting = _pendingInWindow(epoch);
        _requireLine(posting.payerCumRoot, payer, cumulative, index, proof);
        Demand storage demand = _demands[posting.sequence][payer];
        if (demand.cumulative != 0) revert AlreadyDemanded();
        (, uint64 window) = parameters.termsAt(epoch);
        uint64 respondBy = uint64(block.timestamp) + window;
        _demands[posting.sequence][payer] = Demand(msg.sender, respondBy, cumulative, demandBond);
        posting.openDemands += 1;
        _bonds += demandBond;
        emit VoucherDemanded(epoch, payer, msg.sender, cumulative, demandBond, respondBy);
    }

    /// @inheritdoc IInferenceSettlement
    function answerDemand(uint64 epoch, Voucher calldata voucher, bytes calldata signature) external {
        Posting storage posting = _pending(epoch);
        Demand storage demand = _demands[posting.sequence][voucher.payer];
        if (demand.challenger == address(0)) revert NoSuchDemand();
        if (voucher.settler != posting.settler) revert BadVoucher("settler");
        if (voucher.maxCumulative < demand.cumulative) revert BadVoucher("maxCumulative");
        if (!SignatureChecker.isValidSignatureNow(voucher.payer, voucherHash(voucher), signature)) {
            revert BadVoucher("signature");
        }
        uint128 stake = demand.bond;
        // `cumulative` stays, so that the same debit is not demanded twice.
        demand.challenger = address(0);
        demand.bond = 0;
        posting.openDemands -= 1;
        _bonds -= stake;
        emit DemandAnswered(
            epoch, voucher.payer, msg.sender, voucher.maxCumulative, stake / 2, stake - stake / 2
        );
        _halve(stake, msg.sender);
    }

    /// @inheritdoc IInferenceSettlement
    function closeDemand(uint32 sequence, uint64 epoch, address payer) external {
        Demand storage demand = _demands[sequence][payer];
        address challenger = demand.challenger;
        if (challenger == address(0)) revert NoSuchDemand();
        Posting storage posting = _ring[epoch % RING];
        bool live = _isPending(epoch) && posting.sequence == sequence;
        if (live && block.timestamp <= demand.respondBy) revert ResponseOpen(demand.respondBy);

        uint128 stake = demand.bond;
        demand.challenger = address(0);
        demand.bond = 0;
        _bonds -= stake;
        _hold(challenger, stake);
        emit DemandClosed(epoch, payer, challenger, stake, live);
        if (live) {
            _disable(epoch, DisableReason.UnansweredDemand);
            _slash(posting.settler, challenger);
        }
    }

    // --- earners ---

    /// @inheritdoc IInferenceSettlement
    function claim(address earner, uint128 cumulative, uint64 index, bytes32[] calldata proof)
        external
        returns (uint128 amount)
    {
        amount = _claim(earner, cumulative, index, proof);
        if (amount == 0) revert AlreadyClaimed(earner, cumulative);
    }

    /// @inheritdoc IInferenceSettlement
    function claimMany(ClaimItem[] calldata items) external returns (uint128 amount) {
        for (uint256 i = 0; i < items.length; ++i) {
            amount += _claim(items[i].earner, items[i].cumulative, items[i].index, items[i].proof);
        }
    }

    /// @inheritdoc IInferenceSettlement
    function withdraw(address to) external returns (uint128 amount) {
        amount = _heldOf[msg.sender];
        if (amount == 0) revert NothingHeld();
        _heldOf[msg.sender] = 0;
        _held -= amount;
        emit Withdrawn(msg.sender, to, amount);
        _send(to, amount);
    }

    // --- views ---

    /// @inheritdoc IEpochClock
    function openEpoch() external view returns (uint64) {
        return _openEpoch;
    }

    /// @inheritdoc IInferenceSettlement
    function finalEpoch() external view returns (uint64) {
        return _finalEpoch;
    }

    /// @inheritdoc IInferenceSettlement
    function postingOf(uint64 epoch) external view returns (Posting memory posting) {
        posting = _ring[epoch % RING];
        if (epoch == 0 || posting.epoch != epoch || epoch >= _openEpoch) revert NotPending(epoch);
    }

    /// @inheritdoc IInferenceSettlement
    function payerOf(address payer) external view returns (Payer memory) {
        return _payers[payer];
    }

    /// @inheritdoc IInferenceSettlement
    function bondOf(address settler) external view returns (SettlerBond memory) {
        return _settlers[settler];
    }

    /// @inheritdoc IInferenceSettlement
    function claimedOf(address earner) external view returns (uint128) {
        return _claimed[earner];
    }

    /// @inheritdoc IInferenceSettlement
    function heldOf(address account) external view returns (uint128) {
        return _heldOf[account];
    }

    /// @inheritdoc IInferenceSettlement
    function demandOf(uint32 sequence, address payer) external view returns (Demand memory) {
        return _demands[sequence][payer];
    }

    /// @inheritdoc IInferenceSettlement
    function totals()
        external
        view
        returns (
            uint128 deposits,
            uint128 exits,
            uint128 claims,
            uint128 finalFees,
            uint128 bonds,
            uint128 held
        )
    {
        return (_deposits, _exits, _claims, _feesAt(_finalEpoch), _bonds, _held);
    }

    /// @inheritdoc IInferenceSettlement
    function voucherHash(Voucher calldata voucher) public view returns (bytes32) {
        return _hashTypedDataV4(voucher.structHash());
    }

    // --- inside: payers ---

    function _deposit(address payer) private {
        uint128 amount = msg.value.toUint128();
        if (amount == 0 || payer == address(0)) revert BadAmount();
        Payer storage entry = _payers[payer];
        entry.deposited += amount;
        _deposits += amount;
        // Who deposits again stays: otherwise an old request would allow leaving without notice.
        if (payer == msg.sender && entry.exitRequestedAt != 0) {
            entry.exitRequestedAt = 0;
            emit ExitCancelled(payer);
        }
        emit Deposited(payer, msg.sender, amount, entry.deposited - entry.withdrawn);
    }

    function _balance(address payer) private view returns (uint128) {
        return _payers[payer].deposited - _payers[payer].withdrawn;
    }

    /// @dev The delay gives the settler time to post what the payer spent before asking to leave;
    /// what was posted in that time must be final. Later postings do not count, so a settler can
    /// neither hold a payer back nor make it leave by falling silent.
    function _requireExitable(uint64 requestedAt, uint64 delay) private view {
        if (requestedAt == 0) revert ExitNotRequested();
        if (block.timestamp < requestedAt + delay) revert ExitTooEarly(requestedAt + delay);
        uint64 oldest = _finalEpoch + 1;
        if (oldest < _openEpoch && _ring[oldest % RING].postedAt <= requestedAt + exitDelay) {
            revert ExitEpochsPending();
        }
    }

    function _exit(uint128 spent) private {
        Payer storage payer = _payers[msg.sender];
        uint128 balance = _balance(msg.sender);
        uint128 amount = balance > spent ? balance - spent : 0;
        payer.withdrawn += amount;
        payer.exitRequestedAt = 0;
        _exits += amount;
        if (_deposits - _exits < _feesAt(_openEpoch - 1)) revert Insolvent();
        emit Exited(msg.sender, amount, spent);
        _send(msg.sender, amount);
    }

    // --- inside: epochs ---

    function _isPending(uint64 epoch) private view returns (bool) {
        return epoch > _finalEpoch && epoch < _openEpoch;
    }

    function _pending(uint64 epoch) private view returns (Posting storage) {
        if (!_isPending(epoch)) revert NotPending(epoch);
        return _ring[epoch % RING];
    }

    function _pendingInWindow(uint64 epoch) private view returns (Posting storage posting) {
        posting = _pending(epoch);
        if (block.timestamp > posting.challengeUntil) revert WindowClosed(epoch);
    }

    /// @dev Whether the oldest pending epoch has passed its window without an open demand.
    function _isFinalisable() private view returns (bool) {
        uint64 epoch = _finalEpoch + 1;
        if (epoch >= _openEpoch) return false;
        Posting storage posting = _ring[epoch % RING];
        return block.timestamp > posting.challengeUntil && posting.openDemands == 0;
    }

    function _finalise() private {
        uint64 epoch = ++_finalEpoch;
        Posting storage posting = _ring[epoch % RING];
        emit EpochFinalised(epoch, posting.earnerCumRoot, posting.cumulativeFees);
    }

    function _disable(uint64 epoch, DisableReason reason) private {
        _openEpoch = epoch;
        emit EpochDisabled(epoch, reason, msg.sender);
    }

    /// @dev Fees up to and including `epoch`, which must be in the ring; zero for epoch 0, whose slot
    /// is empty until epoch `RING` is posted, when epoch 0 is no longer asked for.
    function _feesAt(uint64 epoch) private view returns (uint128) {
        return _ring[epoch % RING].cumulativeFees;
    }

    // --- inside: lines of the trees ---

    function _requireLine(
        bytes32 root,
        address account,
        uint128 cumulative,
        uint64 index,
        bytes32[] calldata proof
    ) private pure {
        if (!Merkle.verify(root, Merkle.leaf(account, cumulative), index, proof)) {
            revert BadProof();
        }
    }

    function _requirePayerLine(address payer, uint128 cumulative, uint64 index, bytes32[] calldata proof)
        private
        view
    {
        if (_finalEpoch == 0) revert NothingFinal();
        _requireLine(_ring[_finalEpoch % RING].payerCumRoot, payer, cumulative, index, proof);
    }

    function _claim(address earner, uint128 cumulative, uint64 index, bytes32[] calldata proof)
        private
        returns (uint128 amount)
    {
        uint64 epoch = _finalEpoch;
        if (epoch == 0) revert NothingFinal();
        Posting storage posting = _ring[epoch % RING];
        _requireLine(posting.earnerCumRoot, earner, cumulative, index, proof);
        uint128 before = _claimed[earner];
        if (cumulative <= before) return 0;
        amount = cumulative - before;
        uint128 claims = (uint256(_claims) + amount).toUint128();
        if (claims > posting.cumulativeFees) revert ClaimsExceedFees(claims, posting.cumulativeFees);
        _claimed[earner] = cumulative;
        _claims = claims;
        emit Claimed(earner, epoch, amount, cumulative, msg.sender);
        // One earner that refuses coins must not stop the others in a batch.
        if (!Payouts.trySend(earner, amount)) _hold(earner, amount);
    }

    // --- inside: coins ---

    function _slash(address settler, address challenger) private {
        SettlerBond storage entry = _settlers[settler];
        uint128 amount = entry.amount < settlerBond ? entry.amount : settlerBond;
        entry.amount -= amount;
        _bonds -= amount;
        emit SettlerSlashed(settler, challenger, amount / 2, amount - amount / 2);
        _halve(amount, challenger);
    }

    /// @dev A lost bond: half to the winner, half burned, so that losing to oneself costs half.
    function _halve(uint128 amount, address winner) private {
        uint128 reward = amount / 2;
        _hold(winner, reward);
        _send(Payouts.BURN, amount - reward);
    }

    function _hold(address account, uint128 amount) private {
        if (amount == 0) return;
        _heldOf[account] += amount;
        _held += amount;
        emit PaymentHeld(account, amount);
    }

    function _send(address to, uint128 amount) private {
        if (amount > 0 && !Payouts.trySend(to, amount)) revert PaymentRefused(to);
    }
}
