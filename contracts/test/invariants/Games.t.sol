// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DuelPhase} from "../../src/interfaces/IOutputGame.sol";
import {OutputGame} from "../../src/l1/OutputGame.sol";
import {GameStatus} from "../../src/types/Rollup.sol";
import {Rollup} from "../utils/Rollup.sol";
import {GamesHandler} from "./GamesHandler.sol";

/// @notice What dispute games must never do.
contract GamesInvariants is Rollup {
    GamesHandler internal handler;

    function setUp() public {
        handler = new GamesHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// All in one campaign: the handler's honest sides look at every game before each step of time, which is
    /// what takes long.
    function invariant_Games() external view {
        checkBondsAreConserved();
        checkLiesFall();
        checkTruthStands();
        checkHonestyIsFree();
    }

    /// Each game holds exactly the bonds at stake and the credits.
    function checkBondsAreConserved() internal view {
        address[4] memory all = [proposer, handler.liar(), challenger, handler.griefer()];
        for (uint256 i = 0; i < handler.count(); ++i) {
            OutputGame game = handler.games(i);
            uint256 owed = game.status() == GameStatus.IN_PROGRESS ? BOND : 0;
            uint256 open_ = 0;
            for (uint256 d = 0; d < game.duelCount(); ++d) {
                if (game.duels(d).phase <= DuelPhase.Decision) ++open_;
            }
            eq(game.openDuels(), open_, "open duels");
            owed += open_ * BOND;
            for (uint256 a = 0; a < 4; ++a) {
                owed += game.credit(all[a]);
            }
            eq(address(game).balance, owed, "balance");
        }
    }

    /// A lie that an honest challenger looks at does not stand, nor does what is built on it.
    function checkLiesFall() internal view {
        for (uint256 i = 0; i < handler.count(); ++i) {
            OutputGame game = handler.games(i);
            if (game.status() != GameStatus.DEFENDER_WINS) continue;
            yes(!handler.lies(game), "a lie stands");
            uint256 parent = game.parentIndex();
            if (parent == NO_PARENT) continue;
            yes(handler.games(parent).status() == GameStatus.DEFENDER_WINS, "parent stands");
        }
    }

    /// An honest claim of a watchful proposer falls only with its parent.
    function checkTruthStands() internal view {
        for (uint256 i = 0; i < handler.count(); ++i) {
            OutputGame game = handler.games(i);
            if (game.status() != GameStatus.CHALLENGER_WINS || handler.lies(game)) continue;
            uint256 parent = game.parentIndex();
            yes(parent != NO_PARENT, "a root falls");
            yes(handler.games(parent).status() == GameStatus.CHALLENGER_WINS, "fell with its parent");
        }
    }

    /// The honest sides lose no coins: what they have, staked or credited, is at least what they had.
    function checkHonestyIsFree() internal view {
        uint256 has = proposer.balance + challenger.balance;
        for (uint256 i = 0; i < handler.count(); ++i) {
            OutputGame game = handler.games(i);
            has += game.credit(proposer) + game.credit(challenger);
            if (game.status() == GameStatus.IN_PROGRESS && game.gameCreator() == proposer) has += BOND;
            for (uint256 d = 0; d < game.duelCount(); ++d) {
                if (game.duels(d).phase <= DuelPhase.Decision && game.duels(d).challenger == challenger) {
                    has += BOND;
                }
            }
        }
        yes(has >= 2_000_000 ether, "an honest side lost coins");
    }
}
