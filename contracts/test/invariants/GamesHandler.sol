// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Duel, DuelPhase} from "../../src/interfaces/IOutputGame.sol";
import {OutputGame} from "../../src/l1/OutputGame.sol";
import {Payouts} from "../../src/libraries/Payouts.sol";
import {GameStatus} from "../../src/types/Rollup.sol";
import {Rollup} from "../utils/Rollup.sol";

/// @notice An honest proposer and a liar, an honest challenger and a griefer, and a guardian who knows L2.
/// The honest ones look at everything before time passes.
contract GamesHandler is Rollup {
    uint256 internal constant MAX_GAMES = 8;
    uint256 internal constant MAX_DUELS = 5;

    address public liar = address(0x11A4);
    address public griefer = address(0x6F1E);
    OutputGame[] public games;
    uint256 internal next = 1;
    mapping(OutputGame game => bool) internal opposed;

    constructor() payable {
        deployRollup();
        vm.deal(liar, 1_000_000 ether);
        vm.deal(griefer, 1_000_000 ether);
        vm.deal(proposer, 1_000_000 ether);
        vm.deal(challenger, 1_000_000 ether);
    }

    function truth(uint256 number) public pure returns (bytes32) {
        return number == ANCHOR_BLOCK ? ANCHOR_ROOT : keccak256(abi.encode("true", number));
    }

    function lies(OutputGame game) public view returns (bool) {
        return game.rootClaim() != truth(game.l2BlockNumber());
    }

    function count() external view returns (uint256) {
        return games.length;
    }

    function burned() external view returns (uint256) {
        return Payouts.BURN.balance;
    }

    // --- moves of everybody ---

    function create(uint256 seed, uint256 length) external {
        if (games.length >= MAX_GAMES) return;
        bool honest = seed % 2 == 0;
        uint256 parent = seed / 2 % (games.length + 1);
        uint256 from = 0;
        if (parent == games.length) {
            parent = NO_PARENT;
        } else {
            if (games[parent].status() == GameStatus.CHALLENGER_WINS) return;
            from = games[parent].l2BlockNumber();
        }
        uint256 number = from + bound(length, 1, 64);
        bytes32 root = honest ? truth(number) : keccak256(abi.encode("lie", next++));
        bytes memory extra = abi.encode(number, parent);
        (, uint64 existing) = factory.games(GAME, root, extra);
        if (existing != 0) return;
        vm.prank(honest ? proposer : liar);
        games.push(OutputGame(address(factory.create{value: BOND}(GAME, root, extra))));
    }

    /// @notice The griefer, or the liar against itself.
    function challenge(uint256 which, bool friend) external {
        if (games.length == 0) return;
        OutputGame game = games[which % games.length];
        if (game.duelCount() >= MAX_DUELS) return;
        vm.prank(friend ? liar : griefer);
        try game.challenge{value: BOND}() {} catch {}
    }

    /// @notice A duel goes on, by random moves of the dishonest sides and good ones of the honest, until a
    /// side stops moving.
    function move(uint256 which, uint256 duel, uint256 seed) external {
        if (games.length == 0) return;
        OutputGame game = games[which % games.length];
        if (game.duelCount() == 0) return;
        duel %= game.duelCount();
        uint256 rounds = seed % 16;
        for (uint256 i = 0; i < rounds && game.status() == GameStatus.IN_PROGRESS; ++i) {
            _play(game, duel);
            if (game.status() == GameStatus.IN_PROGRESS) {
                _cheat(game, duel, uint256(keccak256(abi.encode(seed, i))));
            }
        }
    }

    function _cheat(OutputGame game, uint256 duel, uint256 seed) internal {
        Duel memory d = game.duels(duel);
        if (d.phase == DuelPhase.Proposer && game.gameCreator() == liar) {
            uint256 middle = game.midpoint(duel);
            bytes32 root = seed % 3 == 0 ? truth(middle) : keccak256(abi.encode("lie", seed));
            vm.prank(liar);
            try game.claimMidpoint(duel, root) {} catch {}
        }
        if (d.phase == DuelPhase.Challenger && d.challenger != challenger) {
            vm.prank(d.challenger);
            if (seed % 2 == 0) try game.agree(duel) {} catch {} else try game.disagree(duel) {} catch {}
        }
    }

    function timeout(uint256 which, uint256 duel) external {
        if (games.length == 0) return;
        OutputGame game = games[which % games.length];
        if (game.duelCount() == 0) return;
        _watch();
        try game.timeout(duel % game.duelCount()) {} catch {}
    }

    function refund(uint256 which, uint256 duel) external {
        if (games.length == 0) return;
        OutputGame game = games[which % games.length];
        if (game.duelCount() == 0) return;
        try game.refund(duel % game.duelCount()) {} catch {}
    }

    function resolve(uint256 which) external {
        if (games.length == 0) return;
        _watch();
        try games[which % games.length].resolve() {} catch {}
    }

    function withdraw(uint256 which, uint256 who) external {
        if (games.length == 0) return;
        address[4] memory all = [proposer, liar, challenger, griefer];
        address account = all[who % 4];
        vm.prank(account);
        try games[which % games.length].withdraw(payable(account)) {} catch {}
    }

    /// @dev Steps of one size, because random numbers are mostly tiny ones.
    function warp(bool day) external {
        _watch();
        vm.warp(block.timestamp + (day ? CLOCK + 1 : CLOCK / 4));
    }

    // --- the honest ones ---

    function _watch() internal {
        for (uint256 i = 0; i < games.length; ++i) {
            OutputGame game = games[i];
            if (game.status() != GameStatus.IN_PROGRESS) continue;
            if (!opposed[game] && lies(game)) {
                vm.prank(challenger);
                // Who builds on a fallen parent falls without a challenge.
                try game.challenge{value: BOND}() {
                    opposed[game] = true;
                } catch {}
            }
            for (uint256 duel = 0; duel < game.duelCount(); ++duel) {
                _play(game, duel);
                if (game.status() != GameStatus.IN_PROGRESS) break;
            }
        }
    }

    function _play(OutputGame game, uint256 duel) internal {
        while (true) {
            Duel memory d = game.duels(duel);
            uint256 middle = game.midpoint(duel);
            if (d.phase == DuelPhase.Proposer && game.gameCreator() == proposer) {
                bytes32 root = truth(middle);
                vm.prank(proposer);
                game.claimMidpoint(duel, root);
            } else if (d.phase == DuelPhase.Challenger && d.challenger == challenger) {
                bool right = d.middleRoot == truth(middle);
                vm.prank(challenger);
                if (right) game.agree(duel);
                else game.disagree(duel);
            } else if (
                d.phase == DuelPhase.Proposer && block.timestamp > uint256(d.movedAt) + d.proposerClock
            ) {
                game.timeout(duel);
                return;
            } else if (d.phase == DuelPhase.Decision) {
                bool right = d.highRoot == truth(d.high);
                vm.prank(guardian);
                game.decide(duel, right);
                return;
            } else {
                return;
            }
        }
    }
}
