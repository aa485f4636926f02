// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IDisputeGameFactory} from "../interfaces/IDisputeGameFactory.sol";
import {IOptimismPortal} from "../interfaces/IOptimismPortal.sol";
import {DepositMarket, ResourceParams} from "../libraries/DepositMarket.sol";
import {L1Alias} from "../libraries/L1Alias.sol";
import {Withdrawals} from "../libraries/Withdrawals.sol";
import {GameStatus, OutputRootProof, WithdrawalTransaction} from "../types/Rollup.sol";

/// @notice Everything that the portal is built on.
struct PortalSettings {
    IDisputeGameFactory disputeGameFactory;
    /// The gas token; no withdrawal may call it.
    address openToken;
    address guardian;
    /// Unix seconds after which the guardian can do nothing here.
    uint64 guardianSunset;
    /// Seconds between proving and finalising a withdrawal.
    uint64 proofMaturityDelay;
    /// Seconds between the end of a game and its use.
    uint64 disputeGameFinalityDelay;
    uint32 respectedGameType;
}

/// @title The door between L1 and L2
/// @notice Deposits are calls to L2 that no sequencer can refuse. Withdrawals are calls to L1: proven
/// against an output root that a dispute game claims, and executed once the game stood and both delays
/// are over. Functions, events and errors are those of the OP Stack's OptimismPortal2.
///
/// Gas is paid in OPEN, so no ETH enters here: OpenBridge moves the coins. A deposit may still carry
/// `value`, which L2 takes from the sender's own balance there; without it a censored user could not
/// get native coins out.
/// @dev A withdrawal calls whatever its sender on L2 named, with this contract as the caller. The
/// sender is visible in `l2Sender` during the call, a second withdrawal cannot start in it, and the
/// withdrawal is marked before it. This contract must therefore never hold coins or approvals.
contract OptimismPortal is IOptimismPortal {
    /// @notice A proof that somebody gave.
    struct ProvenWithdrawal {
        IDisputeGame disputeGameProxy;
        uint64 timestamp;
    }

    /// @notice A call to L2. `opaqueData` packs mint, value, gas limit, creation flag and data.
    event TransactionDeposited(
        address indexed from, address indexed to, uint256 indexed version, bytes opaqueData
    );
    /// @notice Somebody proved a withdrawal.
    event WithdrawalProven(bytes32 indexed withdrawalHash, address indexed from, address indexed to);
    /// @notice Who did.
    event WithdrawalProvenExtension1(bytes32 indexed withdrawalHash, address indexed proofSubmitter);
    /// @notice A withdrawal was executed. It counts as executed even if the call failed.
    event WithdrawalFinalized(bytes32 indexed withdrawalHash, bool success);
    /// @notice The guardian declared a game wrong.
    event DisputeGameBlacklisted(IDisputeGame indexed disputeGame);
    /// @notice The guardian stopped withdrawals, or lets them go on.
    event PausedSet(bool paused);

    /// @notice Withdrawals are stopped.
    error OptimismPortal_CallPaused();
    /// @notice The caller is not the guardian, or the guardian's time is over.
    error OptimismPortal_Unauthorized();
    /// @notice Coins cannot pass here; use OpenBridge.
    error OptimismPortal_NotAllowedOnCGTMode();
    /// @notice A creation must not name a target; a withdrawal must not call the portal or OPEN.
    error OptimismPortal_BadTarget();
    /// @notice The gas limit is below `minimumGasLimit`.
    error OptimismPortal_GasLimitTooLow();
    /// @notice The data is longer than the network would carry.
    error OptimismPortal_CalldataTooLarge();
    /// @notice The game has another type, is blacklisted, or was created just now.
    error OptimismPortal_ImproperDisputeGame();
    /// @notice The game fell.
    error OptimismPortal_InvalidDisputeGame();
    /// @notice The root's parts do not hash to the game's claim.
    error OptimismPortal_InvalidOutputRootProof();
    /// @notice The withdrawal is not in the storage of L2ToL1MessagePasser.
    error OptimismPortal_InvalidMerkleProof();
    /// @notice The withdrawal was executed before.
    error OptimismPortal_AlreadyFinalized();
    /// @notice This submitter has not proven the withdrawal.
    error OptimismPortal_Unproven();
    /// @notice The proof is not younger than its game.
    error OptimismPortal_InvalidProofTimestamp();
    /// @notice The maturity delay is not over.
    error OptimismPortal_ProofNotOldEnough();
    /// @notice The game has not stood, its finality delay is not over, or it is blacklisted.
    error OptimismPortal_InvalidRootClaim();
    /// @notice A withdrawal is being executed.
    error OptimismPortal_NoReentrancy();
    /// @notice The withdrawal asks for more gas than is left. Nothing happened; try with more.
    error OptimismPortal_NotEnoughGas();
    /// @notice The call failed while a wallet estimated its gas.
    error OptimismPortal_GasEstimation();

    uint256 private constant DEPOSIT_VERSION = 0;
    uint256 private constant MAX_DATA = 120_000;
    /// @dev What the call itself and the bookkeeping after it may cost.
    uint256 private constant CALL_OVERHEAD = 40_000;
    /// @dev Sender of simulations that look for the right gas limit.
    address private constant ESTIMATION = address(1);
    /// @dev `l2Sender` outside of a withdrawal.
    address private constant NOBODY = 0x000000000000000000000000000000000000dEaD;

    IDisputeGameFactory public immutable disputeGameFactory;
    address public immutable openToken;
    address public immutable guardian;
    uint64 public immutable guardianSunset;
    uint32 public immutable respectedGameType;
    /// @notice Games older than this do not count. The type never changes, so none are.
    uint64 public immutable respectedGameTypeUpdatedAt;
    uint256 public immutable proofMaturityDelaySeconds;
    uint256 public immutable disputeGameFinalityDelaySeconds;

    ResourceParams public params;
    mapping(bytes32 withdrawalHash => bool) public finalizedWithdrawals;
    mapping(bytes32 withdrawalHash => mapping(address submitter => ProvenWithdrawal)) public
        provenWithdrawals;
    mapping(bytes32 withdrawalHash => address[]) public proofSubmitters;
    mapping(IDisputeGame game => bool) public disputeGameBlacklist;
    bool private _paused;
    address private transient _l2Sender;

    modifier onlyGuardian() {
        if (msg.sender != guardian || block.timestamp >= guardianSunset) {
            revert OptimismPortal_Unauthorized();
        }
        _;
    }

    modifier whenNotPaused() {
        if (paused()) revert OptimismPortal_CallPaused();
        _;
    }

    constructor(PortalSettings memory s) {
        disputeGameFactory = s.disputeGameFactory;
        openToken = s.openToken;
        guardian = s.guardian;
        guardianSunset = s.guardianSunset;
        respectedGameType = s.respectedGameType;
        respectedGameTypeUpdatedAt = uint64(block.timestamp);
        proofMaturityDelaySeconds = s.proofMaturityDelay;
        disputeGameFinalityDelaySeconds = s.disputeGameFinalityDelay;
        params = ResourceParams(DepositMarket.MINIMUM_BASE_FEE, 0, uint64(block.number));
    }

    // --- deposits ---

    /// @notice Sends a call to L2, where it comes from the caller, or from the caller's alias if that
    /// is a contract. Burns gas here for the gas there.
    /// @param to Whom to call; zero for a creation.
    /// @param value Coins that the sender's L2 balance gives to `to`. Nothing is minted.
    /// @param gasLimit Gas of the call on L2; at least `minimumGasLimit(data.length)`.
    /// @param isCreation Whether `data` is the code of a new contract.
    function depositTransaction(
        address to,
        uint256 value,
        uint64 gasLimit,
        bool isCreation,
        bytes calldata data
    ) external payable {
        uint256 gasAtStart = gasleft();
        if (msg.value != 0) revert OptimismPortal_NotAllowedOnCGTMode();
        if (isCreation && to != address(0)) revert OptimismPortal_BadTarget();
        if (data.length > MAX_DATA) revert OptimismPortal_CalldataTooLarge();
        if (gasLimit < minimumGasLimit(uint64(data.length))) revert OptimismPortal_GasLimitTooLow();
        emit TransactionDeposited(
            L1Alias.ofCaller(),
            to,
            DEPOSIT_VERSION,
            abi.encodePacked(msg.value, value, gasLimit, isCreation, data)
        );
        DepositMarket.buy(params, gasLimit, gasAtStart);
    }

    /// @notice The least gas that a deposit with so many bytes of data must buy.
    function minimumGasLimit(uint64 byteCount) public pure returns (uint64) {
        return byteCount * 40 + 21_000;
    }

    // --- withdrawals ---

    /// @notice Proves that L2 sent `w`, against the claim of game number `disputeGameIndex`. The game may
    /// still be open. Proving again replaces the caller's own proof only.
    function proveWithdrawalTransaction(
        WithdrawalTransaction memory w,
        uint256 disputeGameIndex,
        OutputRootProof calldata outputRootProof,
        bytes[] memory withdrawalProof
    ) external whenNotPaused {
        _requireTarget(w);
        (,, IDisputeGame game) = disputeGameFactory.gameAtIndex(disputeGameIndex);
        if (!isGameProper(game) || !isGameRespected(game) || block.timestamp <= game.createdAt()) {
            revert OptimismPortal_ImproperDisputeGame();
        }
        if (game.status() == GameStatus.CHALLENGER_WINS) revert OptimismPortal_InvalidDisputeGame();
        if (game.rootClaim() != Withdrawals.outputRoot(outputRootProof)) {
            revert OptimismPortal_InvalidOutputRootProof();
        }
        bytes32 hash = Withdrawals.hash(w);
        if (!Withdrawals.isSent(outputRootProof.messagePasserStorageRoot, hash, withdrawalProof)) {
            revert OptimismPortal_InvalidMerkleProof();
        }
        provenWithdrawals[hash][msg.sender] = ProvenWithdrawal(game, uint64(block.timestamp));
        proofSubmitters[hash].push(msg.sender);
        emit WithdrawalProven(hash, w.sender, w.target);
        emit WithdrawalProvenExtension1(hash, msg.sender);
    }

    /// @notice Executes a withdrawal that the caller proved.
    function finalizeWithdrawalTransaction(WithdrawalTransaction memory w) external {
        finalizeWithdrawalTransactionExternalProof(w, msg.sender);
    }

    /// @notice Executes a withdrawal that `proofSubmitter` proved. Anybody. The call happens once, with at
    /// least the gas that the withdrawal names; if it fails, it is not repeated.
    function finalizeWithdrawalTransactionExternalProof(
        WithdrawalTransaction memory w,
        address proofSubmitter
    ) public whenNotPaused {
        if (_l2Sender != address(0)) revert OptimismPortal_NoReentrancy();
        _requireTarget(w);
        bytes32 hash = Withdrawals.hash(w);
        checkWithdrawal(hash, proofSubmitter);
        finalizedWithdrawals[hash] = true;

        _l2Sender = w.sender;
        // A call gets at most 63/64 of what is left (EIP-150).
        if (gasleft() / 64 * 63 < w.gasLimit + CALL_OVERHEAD) revert OptimismPortal_NotEnoughGas();
        bytes memory data = w.data;
        address target = w.target;
        bool success;
        // Returned data is not copied, so a target cannot make its size our cost.
        assembly ("memory-safe") {
            success := call(gas(), target, 0, add(data, 32), mload(data), 0, 0)
        }
        _l2Sender = address(0);
        emit WithdrawalFinalized(hash, success);
        if (!success && tx.origin == ESTIMATION) revert OptimismPortal_GasEstimation();
    }

    /// @notice Reverts, with the reason, unless `proofSubmitter`'s proof of the withdrawal can be executed.
    function checkWithdrawal(bytes32 withdrawalHash, address proofSubmitter) public view {
        if (finalizedWithdrawals[withdrawalHash]) revert OptimismPortal_AlreadyFinalized();
        ProvenWithdrawal memory proven = provenWithdrawals[withdrawalHash][proofSubmitter];
        if (proven.timestamp == 0) revert OptimismPortal_Unproven();
        if (proven.timestamp <= proven.disputeGameProxy.createdAt()) {
            revert OptimismPortal_InvalidProofTimestamp();
        }
        if (block.timestamp - proven.timestamp <= proofMaturityDelaySeconds) {
            revert OptimismPortal_ProofNotOldEnough();
        }
        if (!isGameClaimValid(proven.disputeGameProxy)) revert OptimismPortal_InvalidRootClaim();
    }

    // --- guardian, until the sunset ---

    /// @notice Stops withdrawals, or lets them go on. The sunset lets them go on in any case.
    function setPaused(bool on) external onlyGuardian {
        _paused = on;
        emit PausedSet(on);
    }

    /// @notice Declares a game wrong. Withdrawals proven against it must be proven again.
    function blacklistDisputeGame(IDisputeGame game) external onlyGuardian {
        disputeGameBlacklist[game] = true;
        emit DisputeGameBlacklisted(game);
    }

    /// @notice Whether withdrawals are stopped.
    function paused() public view returns (bool) {
        return _paused && block.timestamp < guardianSunset;
    }

    // --- views ---

    /// @inheritdoc IOptimismPortal
    function l2Sender() external view returns (address) {
        address sender = _l2Sender;
        return sender == address(0) ? NOBODY : sender;
    }

    /// @notice How many proofs of a withdrawal were given.
    function numProofSubmitters(bytes32 withdrawalHash) external view returns (uint256) {
        return proofSubmitters[withdrawalHash].length;
    }

    /// @notice Who answers the questions about games below: this contract does.
    function anchorStateRegistry() external view returns (address) {
        return address(this);
    }

    /// @notice Whether the factory made the game and the guardian has not declared it wrong.
    function isGameProper(IDisputeGame game) public view returns (bool) {
        (uint32 kind, bytes32 root, bytes memory extra) = game.gameData();
        (IDisputeGame registered,) = disputeGameFactory.games(kind, root, extra);
        return address(registered) == address(game) && !disputeGameBlacklist[game];
    }

    /// @notice Whether the game follows the rules that withdrawals rely on.
    function isGameRespected(IDisputeGame game) public view returns (bool) {
        return game.gameType() == respectedGameType;
    }

    /// @notice Whether the game is over for longer than the finality delay.
    function isGameFinalized(IDisputeGame game) public view returns (bool) {
        uint256 end = game.resolvedAt();
        return game.status() != GameStatus.IN_PROGRESS && end != 0
            && block.timestamp - end > disputeGameFinalityDelaySeconds;
    }

    /// @notice Whether withdrawals can be executed on the strength of the game's claim.
    function isGameClaimValid(IDisputeGame game) public view returns (bool) {
        return isGameProper(game) && isGameRespected(game) && isGameFinalized(game)
            && game.status() == GameStatus.DEFENDER_WINS;
    }

    /// @notice Version of the interface. Wallets choose how to talk to a portal by the first number.
    function version() external pure returns (string memory) {
        return "5.0.0";
    }

    function _requireTarget(WithdrawalTransaction memory w) private view {
        if (w.target == address(this) || w.target == openToken) revert OptimismPortal_BadTarget();
        if (w.value != 0) revert OptimismPortal_NotAllowedOnCGTMode();
    }
}
