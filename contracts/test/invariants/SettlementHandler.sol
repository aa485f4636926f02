// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {InferenceSettlement} from "../../src/InferenceSettlement.sol";
import {ClaimItem, Demand, Payer, Posting} from "../../src/interfaces/IInferenceSettlement.sol";
import {Voucher} from "../../src/types/Records.sol";
import {Network} from "../utils/Network.sol";
import {Trees} from "../utils/Trees.sol";

/// @notice An earner that refuses coins, so that its claims are held.
contract Refuser {
    receive() external payable {
        revert("no");
    }

    function collect(InferenceSettlement target, address to) external {
        target.withdraw(to);
    }
}

/// @notice Payers, earners, a settler that sometimes cheats, a challenger that always watches, and a
/// guardian. Ghost variables hold what honest bookkeeping says.
contract SettlementHandler is Network {
    uint256 public constant PAYERS = 3;
    uint256 public constant EARNERS = 4;
    uint256 internal constant KEY = 0xBEE;

    enum Fault {
        None,
        Overdraft,
        Unsigned
    }

    /// @notice The lines of one posted epoch.
    struct Book {
        uint128[3] spent;
        uint128[4] earned;
        uint128 fees;
        Fault fault;
        // Earners' lines sum to more than the fees: only the receipts could show it.
        bool inflated;
    }

    address public challenger = address(0xC4A);
    address[] public payers;
    address[] public earners;

    mapping(uint64 epoch => Book) internal books;
    mapping(uint32 sequence => bool) public withdrawnSequence;
    mapping(address => uint256) public lastClaimed;
    uint256 public donated;
    uint256 public ghostDeposits;
    uint256 public ghostExits;
    uint256 public ghostClaims;
    uint256 public ghostBurned;
    uint256 public violations;
    uint256 public paidOut;
    uint256 public postings;

    constructor() payable {
        deployNetwork();
        vm.deal(address(this), type(uint128).max);
        vm.deal(settler, type(uint96).max);
        vm.deal(challenger, type(uint96).max);
        for (uint256 i = 0; i < PAYERS; ++i) {
            payers.push(vm.addr(KEY + i));
        }
        for (uint256 i = 0; i + 1 < EARNERS; ++i) {
            earners.push(address(uint160(0xEA0 + i)));
        }
        earners.push(address(new Refuser()));
    }

    // --- what invariants look at ---

    function target() external view returns (InferenceSettlement) {
        return settlement;
    }

    function book(uint64 epoch) external view returns (Book memory) {
        return books[epoch];
    }

    // --- trees ---

    function payerLeaves(uint64 epoch) internal view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](PAYERS);
        for (uint256 i = 0; i < PAYERS; ++i) {
            leaves[i] = Trees.line(payers[i], books[epoch].spent[i]);
        }
    }

    function earnerLeaves(uint64 epoch) internal view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](EARNERS);
        for (uint256 i = 0; i < EARNERS; ++i) {
            leaves[i] = Trees.line(earners[i], books[epoch].earned[i]);
        }
    }

    // --- payers ---

    function deposit(uint256 who, uint256 amount, bool own) external {
        address payer = payers[who % PAYERS];
        amount = bound(amount, 1, 100 ether);
        ghostDeposits += amount;
        if (own) {
            vm.deal(payer, amount);
            vm.prank(payer);
            settlement.deposit{value: amount}();
        } else {
            settlement.depositFor{value: amount}(payer);
        }
    }

    function requestExit(uint256 who) external {
        vm.prank(payers[who % PAYERS]);
        settlement.requestExit();
    }

    function exit(uint256 who) external {
        uint256 i = who % PAYERS;
        Payer memory account = settlement.payerOf(payers[i]);
        uint64 fin = settlement.finalEpoch();
        if (account.exitRequestedAt == 0) return;
        _watchAndWarp(2 * EXIT_DELAY);
        fin = settlement.finalEpoch();
        uint64 oldest = fin + 1;
        if (
            oldest < settlement.openEpoch()
                && settlement.postingOf(oldest).postedAt <= account.exitRequestedAt + EXIT_DELAY
        ) return;
        (, uint128 before,,,,) = settlement.totals();
        if (fin == 0) {
            vm.prank(payers[i]);
            settlement.exitUnspent();
        } else {
            bytes32[] memory proof = Trees.proof(payerLeaves(fin), i);
            uint128 spent = books[fin].spent[i];
            vm.prank(payers[i]);
            settlement.exit(spent, uint64(i), proof);
        }
        (, uint128 later,,,,) = settlement.totals();
        ghostExits += later - before;
    }

    // --- settler ---

    function post(uint256 seed) external {
        _postBook(seed, Fault.None);
    }

    function postOverdraft(uint256 seed) external {
        _postBook(seed, Fault.Overdraft);
    }

    function postUnsigned(uint256 seed) external {
        _postBook(seed, Fault.Unsigned);
    }

    /// @notice Promises the first earner more than there are fees, from now on.
    function postInflated(uint256 seed) external {
        _postBook(seed, Fault.None);
        uint64 epoch = settlement.openEpoch();
        if (epoch == 1 || settlement.postingOf(epoch - 1).postedAt != block.timestamp) return;
        _noteWithdrawn(epoch - 1);
        vm.prank(guardian);
        settlement.disable(epoch - 1);
        Book memory b = books[epoch - 1];
        b.earned[0] += uint128(bound(seed, 1, 1 ether));
        b.inflated = true;
        books[epoch - 1] = b;
        post(
            epochRecord(
                epoch - 1, Trees.root(payerLeaves(epoch - 1)), Trees.root(earnerLeaves(epoch - 1)), b.fees
            )
        );
    }

    function unbond(uint256 amount) external {
        uint64 fin = settlement.finalEpoch();
        if (fin + 1 < settlement.openEpoch() && settlement.bondOf(settler).lastEpoch > fin) return;
        amount = bound(amount, 0, settlement.bondOf(settler).amount);
        vm.prank(settler);
        settlement.unbond(uint128(amount));
    }

    function _postBook(uint256 seed, Fault fault) internal {
        if (settlement.openEpoch() - settlement.finalEpoch() > 20) return;
        // Posting makes the oldest epoch final if its window is over: the challenger has looked.
        _watch();
        uint128 have = settlement.bondOf(settler).amount;
        if (have < SETTLER_BOND) {
            vm.prank(settler);
            settlement.bond{value: SETTLER_BOND - have}();
        }
        uint64 epoch = settlement.openEpoch();
        Book memory b = books[epoch - 1];
        (b.fees, b.fault) = (0, fault);
        for (uint256 i = 0; i < PAYERS; ++i) {
            uint128 balance = _balance(i);
            // Who asked to leave is not served.
            if (settlement.payerOf(payers[i]).exitRequestedAt != 0 || balance <= b.spent[i]) continue;
            uint128 cost = uint128(bound(uint256(keccak256(abi.encode(seed, i))), 0, balance - b.spent[i]));
            b.spent[i] += cost;
            b.fees += cost;
        }
        _share(b, seed);
        if (fault == Fault.Overdraft) {
            b.spent[0] = _balance(0) + 1;
        }
        books[epoch] = b;
        post(epochRecord(epoch, Trees.root(payerLeaves(epoch)), Trees.root(earnerLeaves(epoch)), b.fees));
        postings += 1;
    }

    function _balance(uint256 i) internal view returns (uint128) {
        Payer memory p = settlement.payerOf(payers[i]);
        return p.deposited - p.withdrawn;
    }

    function _share(Book memory b, uint256 seed) internal pure {
        uint128 rest = b.fees;
        for (uint256 i = 0; i + 1 < EARNERS; ++i) {
            uint128 part = uint128(bound(uint256(keccak256(abi.encode(seed, "earner", i))), 0, rest));
            b.earned[i] += part;
            rest -= part;
        }
        b.earned[EARNERS - 1] += rest;
    }

    // --- time, challenger, guardian ---

    function warp(uint256 time) external {
        _watchAndWarp(bound(time, 1, 2 * WINDOW));
    }

    function finalise() external {
        _watch();
        uint64 epoch = settlement.finalEpoch() + 1;
        if (epoch >= settlement.openEpoch()) return;
        if (block.timestamp <= settlement.postingOf(epoch).challengeUntil) return;
        settlement.finalise();
    }

    function disable(uint256 seed) external {
        uint64 fin = settlement.finalEpoch();
        uint64 open = settlement.openEpoch();
        if (fin + 1 >= open) return;
        uint64 epoch = uint64(bound(seed, fin + 1, open - 1));
        if (block.timestamp > settlement.postingOf(epoch).challengeUntil) return;
        _noteWithdrawn(epoch);
        vm.prank(guardian);
        settlement.disable(epoch);
    }

    /// @notice Demands an honest debit's voucher; the payer's signature answers.
    function demandHonest(uint256 seed, uint256 who) external {
        uint64 fin = settlement.finalEpoch();
        uint64 open = settlement.openEpoch();
        if (fin + 1 >= open) return;
        uint64 epoch = uint64(bound(seed, fin + 1, open - 1));
        uint256 i = who % PAYERS;
        Posting memory p = settlement.postingOf(epoch);
        if (books[epoch].fault != Fault.None || block.timestamp > p.challengeUntil) return;
        if (books[epoch].spent[i] == 0) return;
        if (settlement.demandOf(p.sequence, payers[i]).cumulative != 0) return;
        _demand(epoch, i);
        Voucher memory v = Voucher(payers[i], settler, books[epoch].spent[i], 1, 0);
        settlement.answerDemand(epoch, v, signVoucher(KEY + i, v));
        ghostBurned += DEMAND_BOND - DEMAND_BOND / 2;
    }

    function _demand(uint64 epoch, uint256 i) internal {
        bytes32[] memory proof = Trees.proof(payerLeaves(epoch), i);
        uint128 spent = books[epoch].spent[i];
        vm.prank(challenger);
        settlement.demandVoucher{value: DEMAND_BOND}(epoch, payers[i], spent, uint64(i), proof);
    }

    function _noteWithdrawn(uint64 from) internal {
        for (uint64 e = from; e < settlement.openEpoch(); ++e) {
            withdrawnSequence[settlement.postingOf(e).sequence] = true;
        }
    }

    function _noteSlash() internal {
        uint128 bond = settlement.bondOf(settler).amount;
        uint128 lost = bond < SETTLER_BOND ? bond : SETTLER_BOND;
        ghostBurned += lost - lost / 2;
    }

    /// @dev Proves every fault in the pending epochs, as a watchful challenger does in the window.
    /// Demands are made, and later closed, without an answer: the payer signed nothing.
    function _watch() internal {
        for (uint64 e = settlement.finalEpoch() + 1; e < settlement.openEpoch(); ++e) {
            if (books[e].fault == Fault.Overdraft && books[e].spent[0] > _balance(0)) {
                bytes32[] memory proof = Trees.proof(payerLeaves(e), 0);
                uint128 spent = books[e].spent[0];
                _noteWithdrawn(e);
                _noteSlash();
                vm.prank(challenger);
                settlement.challengeOverdraft(e, payers[0], spent, 0, proof);
                return;
            }
            // A deposit made since covers the debit, but nobody has signed for it.
            if (books[e].fault != Fault.None) {
                _watchUnsigned(e);
                if (settlement.openEpoch() == e) return;
            }
        }
    }

    function _watchUnsigned(uint64 e) internal {
        Posting memory p = settlement.postingOf(e);
        for (uint256 i = 0; i < PAYERS; ++i) {
            if (books[e].spent[i] == 0) continue;
            Demand memory d = settlement.demandOf(p.sequence, payers[i]);
            if (d.cumulative == 0) {
                _demand(e, i);
                d = settlement.demandOf(p.sequence, payers[i]);
            }
            vm.warp(uint256(d.respondBy) + 1);
            _noteWithdrawn(e);
            _noteSlash();
            settlement.closeDemand(p.sequence, e, payers[i]);
            return;
        }
        // Nobody was debited, so there was nothing to sign: the epoch is harmless.
        books[e].fault = Fault.None;
    }

    function _watchAndWarp(uint256 time) internal {
        _watch();
        vm.warp(block.timestamp + time);
    }

    // --- earners ---

    function claim(uint256 who) external {
        uint64 fin = settlement.finalEpoch();
        uint256 i = who % EARNERS;
        if (fin == 0 || books[fin].earned[i] <= settlement.claimedOf(earners[i])) return;
        bytes32[] memory proof = Trees.proof(earnerLeaves(fin), i);
        try settlement.claim(earners[i], books[fin].earned[i], uint64(i), proof) returns (uint128 amount) {
            _noteClaim(amount);
        } catch {
            // Only an inflated root can promise more than there is.
            if (!books[fin].inflated) violations += 1;
        }
    }

    function claimAll() external {
        uint64 fin = settlement.finalEpoch();
        if (fin == 0) return;
        ClaimItem[] memory items = new ClaimItem[](EARNERS);
        for (uint256 i = 0; i < EARNERS; ++i) {
            items[i] =
                ClaimItem(earners[i], books[fin].earned[i], uint64(i), Trees.proof(earnerLeaves(fin), i));
        }
        try settlement.claimMany(items) returns (uint128 amount) {
            _noteClaim(amount);
        } catch {
            if (!books[fin].inflated) violations += 1;
        }
    }

    /// @notice Lines of pending, withdrawn and old epochs must pay nothing new.
    function claimFromElsewhere(uint256 who, uint256 seed) external {
        uint64 fin = settlement.finalEpoch();
        uint64 epoch = uint64(bound(seed, 0, settlement.openEpoch() + 3));
        uint256 i = who % EARNERS;
        bytes32[] memory leaves = earnerLeaves(epoch);
        bool same = fin != 0 && Trees.root(leaves) == Trees.root(earnerLeaves(fin));
        if (same || books[epoch].earned[i] == 0) return;
        bool standing = fin != 0 && leaves[i] == earnerLeaves(fin)[i];
        try settlement.claim(earners[i], books[epoch].earned[i], uint64(i), Trees.proof(leaves, i)) {
            if (!standing) violations += 1;
            ghostClaims += settlement.claimedOf(earners[i]) - lastClaimed[earners[i]];
            _noteClaim(0);
        } catch {}
    }

    function withdraw() external {
        if (settlement.heldOf(challenger) > 0) {
            vm.prank(challenger);
            settlement.withdraw(challenger);
        }
        address refuser = earners[EARNERS - 1];
        if (settlement.heldOf(refuser) > 0) Refuser(payable(refuser)).collect(settlement, address(0xF00));
    }

    function donate(uint256 amount) external {
        amount = bound(amount, 1, 1 ether);
        donated += amount;
        vm.deal(address(settlement), address(settlement).balance + amount);
    }

    function _noteClaim(uint128 amount) internal {
        ghostClaims += amount;
        for (uint256 i = 0; i < EARNERS; ++i) {
            uint128 now_ = settlement.claimedOf(earners[i]);
            if (now_ < lastClaimed[earners[i]]) violations += 1;
            lastClaimed[earners[i]] = now_;
        }
    }
}
