// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EpochSettlement, Voucher} from "../types/Records.sol";
import {IEpochClock} from "./IEpochClock.sol";

/// @notice A posted epoch. Only the newest `RING` stay in storage; events keep all.
struct Posting {
    bytes32 payerCumRoot;
    bytes32 earnerCumRoot;
    uint128 cumulativeFees;
    uint64 epoch;
    uint64 challengeUntil;
    address settler;
    uint48 postedAt;
    uint32 sequence;
    uint16 openDemands;
}

/// @notice A payer's account. The balance that pays is `deposited - withdrawn`, and settled debits
/// are cumulative against it.
struct Payer {
    uint128 deposited;
    uint128 withdrawn;
    uint64 exitRequestedAt;
    bool charged;
}

/// @notice A settler's bond.
struct SettlerBond {
    uint128 amount;
    uint64 lastEpoch;
}

/// @notice A demand to see the voucher behind one debit.
struct Demand {
    address challenger;
    uint64 respondBy;
    uint128 cumulative;
    uint128 bond;
}

/// @notice One line of a batch of claims.
struct ClaimItem {
    address earner;
    uint128 cumulative;
    uint64 index;
    bytes32[] proof;
}

/// @notice Why posted epochs were withdrawn.
enum DisableReason {
    Guardian,
    Overdraft,
    UnansweredDemand
}

/// @title Paying for inference without a transaction per answer
/// @notice Payers deposit once and sign cumulative vouchers off-chain. A settler posts each epoch as
/// two Merkle roots, of everything ever owed by payers and to earners; posting costs the same for
/// one answer or a million. After a challenge window the epoch is final and anybody may carry an
/// earner's claim, which pays the difference to what was paid before.
///
/// What the contract itself guarantees, whatever the settler posts: all claims ever paid are at most
/// the final fees, and fees are at most what payers deposited and did not take back. What needs a
/// challenger: that one payer's debit is covered by deposit and voucher. What needs the receipts
/// (and another contract): that the split among the earners follows the rules.
interface IInferenceSettlement is IEpochClock {
    /// @notice A payer's deposit grew; `balance` is deposits minus withdrawals, before debits.
    event Deposited(address indexed payer, address indexed from, uint128 amount, uint128 balance);
    /// @notice An epoch was posted; it can be challenged until `challengeUntil`.
    event EpochPosted(
        uint64 indexed epoch,
        address indexed settler,
        bytes32 indexed digest,
        EpochSettlement settlement,
        uint128 cumulativeFees,
        uint64 challengeUntil,
        uint32 sequence
    );
    /// @notice The epoch can no longer be challenged; claims against it are open.
    event EpochFinalised(uint64 indexed epoch, bytes32 earnerCumRoot, uint128 cumulativeFees);
    /// @notice The epoch and all later ones were withdrawn; `epoch` must be posted anew.
    event EpochDisabled(uint64 indexed epoch, DisableReason indexed reason, address by);
    /// @notice An earner was paid the difference between `cumulative` and what was paid before.
    event Claimed(
        address indexed earner, uint64 indexed epoch, uint128 amount, uint128 cumulative, address by
    );
    /// @notice The receiver refused the coins; they wait for `withdraw`.
    event PaymentHeld(address indexed account, uint128 amount);
    /// @notice An account took out what was held for it.
    event Withdrawn(address indexed account, address to, uint128 amount);
    /// @notice A payer wants the rest of the deposit back; settlers should serve no new requests.
    event ExitRequested(address indexed payer, uint64 availableAt);
    /// @notice A payer who had asked to leave deposited again and stays.
    event ExitCancelled(address indexed payer);
    /// @notice A payer took the rest of the deposit out.
    event Exited(address indexed payer, uint128 amount, uint128 spent);
    /// @notice Somebody showed that the payer has debits.
    event ExitContested(address indexed payer, uint64 indexed epoch, uint128 cumulative);
    /// @notice A settler's bond changed; `amount` is the new total.
    event SettlerBonded(address indexed settler, uint128 amount);
    /// @notice A settler lost bond: half went to the challenger, half was burned.
    event SettlerSlashed(
        address indexed settler, address indexed challenger, uint128 toChallenger, uint128 burned
    );
    /// @notice Somebody demands the voucher behind a debit.
    event VoucherDemanded(
        uint64 indexed epoch,
        address indexed payer,
        address indexed challenger,
        uint128 cumulative,
        uint128 bond,
        uint64 respondBy
    );
    /// @notice The voucher was shown; the demand's bond went half to the responder, half burned.
    event DemandAnswered(
        uint64 indexed epoch,
        address indexed payer,
        address indexed by,
        uint128 maxCumulative,
        uint128 toResponder,
        uint128 burned
    );
    /// @notice The demand ended without an answer; its bond is held for the challenger. If the epoch
    /// was live, it is withdrawn and the settler slashed.
    event DemandClosed(
        uint64 indexed epoch,
        address indexed payer,
        address indexed challenger,
        uint128 returned,
        bool disabled
    );

    /// @notice Zero coins, or more than 128 bits.
    error BadAmount();
    /// @notice The settler's bond is too low to post.
    error BondTooLow(uint128 have, uint128 need);
    /// @notice The settler has postings that can still be challenged.
    error BondLocked(uint64 epoch);
    /// @notice The record does not fit: `field` is the first wrong one.
    error BadSettlement(string field);
    /// @notice More fees than payers' deposits could cover.
    error FeesExceedDeposits(uint256 fees, uint256 deposits);
    /// @notice Too many epochs wait for their window to end.
    error TooManyPending();
    /// @notice The epoch is not posted, was withdrawn, or is already final.
    error NotPending(uint64 epoch);
    /// @notice The challenge window is over.
    error WindowClosed(uint64 epoch);
    /// @notice The challenge window is open, or a demand waits for its answer.
    error WindowOpen(uint64 epoch);
    /// @notice The guardian's time is over.
    error GuardianSunset();
    /// @notice The line is not in the tree.
    error BadProof();
    /// @notice No epoch is final yet.
    error NothingFinal();
    /// @notice Nothing more to claim.
    error AlreadyClaimed(address earner, uint128 cumulative);
    /// @notice Claims would exceed the final fees: the posted root is inconsistent.
    error ClaimsExceedFees(uint256 claims, uint256 fees);
    /// @notice The payer's balance covers the debit.
    error NoOverdraft(uint128 cumulative, uint128 balance);
    /// @notice The same debit is being demanded, or was answered before.
    error AlreadyDemanded();
    /// @notice There is no such open demand.
    error NoSuchDemand();
    /// @notice The voucher does not cover the debit: `field` is the first wrong one.
    error BadVoucher(string field);
    /// @notice The answer can still come.
    error ResponseOpen(uint64 until);
    /// @notice No exit was requested.
    error ExitNotRequested();
    /// @notice The exit's delay is not over.
    error ExitTooEarly(uint64 availableAt);
    /// @notice Epochs posted before the exit's cut-off are not final yet.
    error ExitEpochsPending();
    /// @notice The payer has debits; use `exit` with the proof.
    error PayerWasCharged();
    /// @notice Paying this out would touch coins that belong to earners.
    error Insolvent();
    /// @notice Nothing is held for the caller.
    error NothingHeld();
    /// @notice The receiver refused the coins.
    error PaymentRefused(address to);
    /// @notice The parameters contract counts epochs by another contract.
    error WrongClock();

    // --- payers ---

    /// @notice Adds the sent coins to the caller's deposit.
    function deposit() external payable;

    /// @notice Adds the sent coins to `payer`'s deposit. A payer's own deposit cancels its exit.
    function depositFor(address payer) external payable;

    /// @notice Starts to leave. After `EXIT_DELAY` the unspent rest can be taken out.
    function requestExit() external;

    /// @notice Pays the caller's unspent rest back, proven by its line in the final payer root.
    function exit(uint128 cumulative, uint64 index, bytes32[] calldata proof) external;

    /// @notice Pays the whole deposit back to a caller who never spent, twice `EXIT_DELAY` after the
    /// request. Until then anybody can refute it with `contestExit`.
    function exitUnspent() external;

    /// @notice Shows that `payer` has debits in the final root, so that `exitUnspent` is closed.
    function contestExit(address payer, uint128 cumulative, uint64 index, bytes32[] calldata proof) external;

    // --- settler ---

    /// @notice Adds the sent coins to the caller's bond.
    function bond() external payable;

    /// @notice Takes the caller's bond out, once none of its postings can be challenged.
    function unbond(uint128 amount) external;

    /// @notice Posts the open epoch. Restricted to settlers with a bond. O(1).
    function post(EpochSettlement calldata settlement) external;

    /// @notice Makes the oldest pending epoch final after its window. Anybody. `post` does it too.
    function finalise() external;

    // --- challengers and guardian ---

    /// @notice Withdraws a pending epoch, and those after it, within its window. Restricted to the
    /// guardian, until `guardianSunset`.
    function disable(uint64 epoch) external;

    /// @notice Proves that a pending epoch debits `payer` more than the balance: withdraws the epoch
    /// and slashes the settler.
    function challengeOverdraft(
        uint64 epoch,
        address payer,
        uint128 cumulative,
        uint64 index,
        bytes32[] calldata proof
    ) external;

    /// @notice Demands the voucher behind a pending debit; the sent coins are the demand's bond.
    function demandVoucher(
        uint64 epoch,
        address payer,
        uint128 cumulative,
        uint64 index,
        bytes32[] calldata proof
    ) external payable;

    /// @notice Answers a demand with a voucher signed by the payer (EIP-712; ERC-1271 wallets too).
    /// A voucher whose deadline has passed still proves debits made before.
    function answerDemand(uint64 epoch, Voucher calldata voucher, bytes calldata signature) external;

    /// @notice Closes a demand that nobody answered in time: withdraws the epoch and slashes the
    /// settler. If the epoch was withdrawn otherwise, only gives the bond back.
    /// @param sequence The posting's number in `EpochPosted`: a re-posted epoch has another one.
    function closeDemand(uint32 sequence, uint64 epoch, address payer) external;

    // --- earners ---

    /// @notice Pays `earner` what the newest final root owes beyond earlier claims. Anybody may call.
    function claim(address earner, uint128 cumulative, uint64 index, bytes32[] calldata proof)
        external
        returns (uint128 amount);

    /// @notice Many claims at once; lines that were claimed meanwhile are skipped.
    function claimMany(ClaimItem[] calldata items) external returns (uint128 amount);

    /// @notice Takes out coins that a receiver refused, or a challenger's reward.
    function withdraw(address to) external returns (uint128 amount);

    // --- views ---

    /// @notice The newest final epoch; zero before the first.
    function finalEpoch() external view returns (uint64);

    /// @notice The stored posting of `epoch`; reverts with NotPending once it left the ring.
    function postingOf(uint64 epoch) external view returns (Posting memory);

    /// @notice A payer's account.
    function payerOf(address payer) external view returns (Payer memory);

    /// @notice A settler's bond.
    function bondOf(address settler) external view returns (SettlerBond memory);

    /// @notice Everything ever paid to `earner`.
    function claimedOf(address earner) external view returns (uint128);

    /// @notice What `withdraw` would give `account`.
    function heldOf(address account) external view returns (uint128);

    /// @notice The demand for `payer`'s voucher in the posting with this sequence number.
    function demandOf(uint32 sequence, address payer) external view returns (Demand memory);

    /// @notice The whole ledger: everything deposited, taken back by payers, paid to earners, final
    /// fees, settlers' and demands' bonds, and coins held for `withdraw`. The contract's balance is
    /// at least `deposits - exits - claims + bonds + held`.
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
        );

    /// @notice What a payer signs (EIP-712).
    function voucherHash(Voucher calldata voucher) external view returns (bytes32);
}
