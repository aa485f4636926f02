// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ContributionAnchor} from "../../src/ContributionAnchor.sol";
import {Batch, Evidence} from "../../src/interfaces/IContributionAnchor.sol";
import {Batches} from "../utils/Batches.sol";

/// @notice Submitters whose texts collide often, a challenger, and attempts to accuse the innocent.
contract AnchorHandler is Batches {
    uint256 public constant ACCOUNTS = 4;

    address[] public accounts;
    /// @dev ABI-encoded drafts: the compiler cannot copy nested dynamic memory to storage.
    bytes[] internal drafts;
    uint64 public datanet;
    uint256 public ghostIn;
    uint256 public ghostOut;
    uint256 public ghostBurned;
    uint256 public ghostSlashed;
    uint256 public violations;

    constructor() {
        deployNetwork();
        vm.deal(address(this), type(uint128).max);
        datanet = datanets.create{value: 2 ether}("Rivers", "MIT", 0, "");
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            accounts.push(address(uint160(0xACC0 + i)));
            vm.deal(accounts[i], 1_000_000 ether);
        }
    }

    function target() external view returns (ContributionAnchor) {
        return anchors;
    }

    function count() external view returns (uint256) {
        return drafts.length;
    }

    /// @notice Texts come from a small set, so that copies are common. Every fourth leaf is forged.
    function submit(uint256 who, uint256 seed, bool late) external {
        seed %= 25;
        Draft memory d = draft(accounts[who % ACCOUNTS], datanet, texts(bytes32(seed % 5), bytes32(seed / 5)));
        if (seed % 4 == 0) resign(d, 1, 0xBAD);
        if (late) vm.roll(block.number + 3);
        ghostIn += 0.02 ether;
        anchor(d);
        drafts.push(abi.encode(d));
        vm.roll(block.number + 1);
    }

    function deposit(uint256 who, uint256 amount) external {
        amount = bound(amount, 0, 1 ether);
        ghostIn += amount;
        vm.prank(accounts[who % ACCOUNTS]);
        anchors.depositBond{value: amount}();
    }

    function withdraw(uint256 who, uint256 amount) external {
        address account = accounts[who % ACCOUNTS];
        (uint128 total, uint128 locked) = anchors.bondOf(account);
        amount = bound(amount, 0, total - locked);
        ghostOut += amount;
        vm.prank(account);
        anchors.withdrawBond(account, uint128(amount));
    }

    /// @notice Any two leaves, whoever is right. The contract's verdict must be the true one.
    function accuse(uint256 a, uint256 b, uint256 leaves_, uint256 who) external {
        if (drafts.length == 0) return;
        Draft memory x = _draft(a);
        Draft memory y = _draft(b);
        uint256 i = leaves_ % 2;
        uint256 j = (leaves_ / 2) % 2;
        bool just = _isJust(x, i, y, j);
        bool judged = _judge(accounts[who % ACCOUNTS], evidence(x, i), contentsProof(x, i), evidence(y, j));
        if (judged != just) violations += 1;
        if (judged) _noteSlash();
    }

    function accuseSignature(uint256 a, uint256 leaf) external {
        if (drafts.length == 0) return;
        Draft memory d = _draft(a);
        uint256 i = leaf % 2;
        bool forged = i == 1 && _isForged(d);
        bool open = !anchors.isSlashed(d.id, uint64(i)) && _isOpen(d.id);
        try anchors.challengeSignature(evidence(d, i)) {
            if (!forged || !open) violations += 1;
            _noteSlash();
        } catch {
            if (forged && open) violations += 1;
        }
    }

    function finalise(uint256 a) external {
        if (drafts.length == 0) return;
        uint64 id = _draft(a).id;
        if (_isOpen(id) || anchors.batchOf(id).finalised) return;
        anchors.finalise(id);
    }

    function warp(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, WINDOW));
    }

    function _draft(uint256 seed) internal view returns (Draft memory) {
        return abi.decode(drafts[seed % drafts.length], (Draft));
    }

    function _isJust(Draft memory x, uint256 i, Draft memory y, uint256 j) internal view returns (bool) {
        Batch memory p = anchors.batchOf(x.id);
        Batch memory q = anchors.batchOf(y.id);
        bool earlier = p.commitBlock < q.commitBlock
            || (p.commitBlock == q.commitBlock && (x.id < y.id || (x.id == y.id && i < j)));
        return earlier && x.committed[i] == y.committed[j] && _isOpen(y.id)
            && !anchors.isSlashed(x.id, uint64(i)) && !anchors.isSlashed(y.id, uint64(j));
    }

    function _judge(address who, Evidence memory x, bytes32[] memory opening, Evidence memory y)
        internal
        returns (bool)
    {
        vm.prank(who);
        try anchors.challengeDuplicate(x, opening, y) {
            return true;
        } catch {
            return false;
        }
    }

    function _isForged(Draft memory d) internal pure returns (bool) {
        return (uint256(d.committed[0]) + 5 * uint256(d.committed[1])) % 4 == 0;
    }

    function _isOpen(uint64 id) internal view returns (bool) {
        Batch memory b = anchors.batchOf(id);
        return !b.finalised && block.timestamp <= b.challengeUntil;
    }

    function _noteSlash() internal {
        ghostSlashed += 1;
        ghostBurned += 0.005 ether;
    }
}
