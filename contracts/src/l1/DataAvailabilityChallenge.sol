// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @notice Where a challenge stands.
enum ChallengeStatus {
    Uninitialized,
    Active,
    Resolved,
    Expired
}

/// @notice A demand to show the data behind a commitment.
struct Challenge {
    address challenger;
    uint256 lockedBond;
    uint256 startBlock;
    uint256 resolvedBlock;
}

/// @title Making the data behind a batch come out
/// @notice Batches may be kept outside of L1 with only their hash in the inbox. Whoever cannot get the
/// data challenges the hash with a bond; whoever has it shows it here. If nobody does in time, nodes
/// leave the batch out. Nodes read the events, so they are consensus: the OP Stack's alt-DA mode.
/// @dev Commitments are a zero byte and a keccak256; the data of other kinds cannot be checked here.
contract DataAvailabilityChallenge is Ownable2Step {
    /// @notice A challenge was made, or answered. A challenge that expires emits nothing: it is over when
    /// `resolveWindow` blocks have passed.
    event ChallengeStatusChanged(
        uint256 indexed challengedBlockNumber, bytes challengedCommitment, ChallengeStatus status
    );
    /// @notice The bond of future challenges changed.
    event RequiredBondSizeChanged(uint256 bondSize);
    /// @notice The resolver's part changed.
    event ResolverRefundPercentageChanged(uint256 resolverRefundPercentage);
    /// @notice An account's balance here changed.
    event BalanceChanged(address account, uint256 balance);

    /// @notice More than all of the cost cannot be refunded.
    error InvalidResolverRefundPercentage(uint256 percentage);
    /// @notice The balance does not cover the bond.
    error BondTooLow(uint256 balance, uint256 required);
    /// @notice This commitment of this block was challenged before.
    error ChallengeExists();
    /// @notice There is no challenge that waits for data.
    error ChallengeNotActive();
    /// @notice The data can still come, or came.
    error ChallengeNotExpired();
    /// @notice The block is in the future, or too old.
    error ChallengeWindowNotOpen();
    /// @notice The data has another hash.
    error InvalidInputData(bytes providedDataCommitment, bytes expectedCommitment);
    /// @notice Nodes read the data from the transaction itself, so it must be sent by a wallet to here.
    error NotDirect();
    /// @notice Only hashes can be checked.
    error UnknownCommitmentType(uint8 commitmentType);
    error InvalidCommitmentLength(uint8 commitmentType, uint256 expectedLength, uint256 actualLength);

    /// @notice Gas of an answer without data.
    uint256 public constant fixedResolutionCost = 72_925;
    /// @notice Gas of a byte of data, times `variableResolutionCostPrecision`.
    uint256 public constant variableResolutionCost = 16_640;
    uint256 public constant variableResolutionCostPrecision = 1000;

    uint8 private constant KECCAK = 0;
    uint256 private constant COMMITMENT_LENGTH = 33;

    /// @notice L1 blocks after its own in which a commitment can be challenged.
    uint256 public immutable challengeWindow;
    /// @notice L1 blocks after the challenge in which the data can be shown.
    uint256 public immutable resolveWindow;

    /// @notice Wei that a challenge locks.
    uint256 public bondSize;
    /// @notice Part of the answer's cost that the bond pays back, in percent. The rest is burned.
    uint256 public resolverRefundPercentage;
    mapping(address account => uint256) public balances;
    mapping(uint256 blockNumber => mapping(bytes32 commitmentHash => Challenge)) private _challenges;

    constructor(
        address owner,
        uint256 challengeWindow_,
        uint256 resolveWindow_,
        uint256 bondSize_,
        uint256 resolverRefundPercentage_
    ) Ownable(owner) {
        challengeWindow = challengeWindow_;
        resolveWindow = resolveWindow_;
        _setBondSize(bondSize_);
        _setResolverRefundPercentage(resolverRefundPercentage_);
    }

    receive() external payable {
        deposit();
    }

    // --- balances ---

    /// @notice Adds the sent coins to the caller's balance.
    function deposit() public payable {
        balances[msg.sender] += msg.value;
        emit BalanceChanged(msg.sender, balances[msg.sender]);
    }

    /// @notice Pays the caller's balance out.
    function withdraw() external {
        uint256 amount = balances[msg.sender];
        balances[msg.sender] = 0;
        emit BalanceChanged(msg.sender, 0);
        Address.sendValue(payable(msg.sender), amount);
    }

    // --- challenges ---

    /// @notice Demands the data of a commitment that the inbox got in L1 block `challengedBlockNumber`.
    /// Nodes ignore demands for what was never in the inbox.
    function challenge(uint256 challengedBlockNumber, bytes calldata challengedCommitment) external payable {
        validateCommitment(challengedCommitment);
        if (block.number < challengedBlockNumber || block.number > challengedBlockNumber + challengeWindow) {
            revert ChallengeWindowNotOpen();
        }
        Challenge storage c = _at(challengedBlockNumber, challengedCommitment);
        if (c.challenger != address(0)) revert ChallengeExists();
        uint256 balance = balances[msg.sender] + msg.value;
        if (balance < bondSize) revert BondTooLow(balance, bondSize);
        balances[msg.sender] = balance - bondSize;
        c.challenger = msg.sender;
        c.lockedBond = bondSize;
        c.startBlock = block.number;
        emit BalanceChanged(msg.sender, balance - bondSize);
        emit ChallengeStatusChanged(challengedBlockNumber, challengedCommitment, ChallengeStatus.Active);
    }

    /// @notice Shows the data. The bond pays for it; what it does not cost goes back to the challenger.
    function resolve(
        uint256 challengedBlockNumber,
        bytes calldata challengedCommitment,
        bytes calldata resolveData
    ) external {
        // Through a contract the challenge would be over, and no node would have the data. A wallet with
        // code (EIP-7702) is one, too.
        if (msg.sender != tx.origin || msg.sender.code.length != 0) revert NotDirect();
        validateCommitment(challengedCommitment);
        Challenge storage c = _at(challengedBlockNumber, challengedCommitment);
        if (_status(c) != ChallengeStatus.Active) revert ChallengeNotActive();
        bytes memory shown = abi.encodePacked(KECCAK, keccak256(resolveData));
        if (keccak256(shown) != keccak256(challengedCommitment)) {
            revert InvalidInputData(shown, challengedCommitment);
        }
        c.resolvedBlock = block.number;
        emit ChallengeStatusChanged(challengedBlockNumber, challengedCommitment, ChallengeStatus.Resolved);
        _distribute(c, resolveData.length, msg.sender);
    }

    /// @notice Puts the bond of an expired challenge back into its challenger's balance. Anybody.
    function unlockBond(uint256 challengedBlockNumber, bytes calldata challengedCommitment) external {
        validateCommitment(challengedCommitment);
        Challenge storage c = _at(challengedBlockNumber, challengedCommitment);
        if (_status(c) != ChallengeStatus.Expired) revert ChallengeNotExpired();
        uint256 locked = c.lockedBond;
        c.lockedBond = 0;
        _credit(c.challenger, locked);
    }

    // --- owner ---

    /// @notice Sets the bond of future challenges. It should cover the cost of an answer.
    function setBondSize(uint256 bondSize_) external onlyOwner {
        _setBondSize(bondSize_);
    }

    /// @notice Sets the resolver's part of the cost.
    function setResolverRefundPercentage(uint256 percentage) external onlyOwner {
        _setResolverRefundPercentage(percentage);
    }

    // --- views ---

    /// @notice The challenge of a commitment.
    function getChallenge(uint256 challengedBlockNumber, bytes calldata challengedCommitment)
        external
        view
        returns (Challenge memory)
    {
        return _at(challengedBlockNumber, challengedCommitment);
    }

    /// @notice Where it stands.
    function getChallengeStatus(uint256 challengedBlockNumber, bytes calldata challengedCommitment)
        external
        view
        returns (ChallengeStatus)
    {
        return _status(_at(challengedBlockNumber, challengedCommitment));
    }

    /// @notice Reverts unless the commitment is a zero byte and a hash.
    function validateCommitment(bytes calldata commitment) public pure {
        uint8 kind = commitment.length == 0 ? type(uint8).max : uint8(commitment[0]);
        if (kind != KECCAK) revert UnknownCommitmentType(kind);
        if (commitment.length != COMMITMENT_LENGTH) {
            revert InvalidCommitmentLength(kind, COMMITMENT_LENGTH, commitment.length);
        }
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.1.0";
    }

    // --- inside ---

    function _at(uint256 number, bytes calldata commitment) private view returns (Challenge storage) {
        return _challenges[number][keccak256(commitment)];
    }

    function _status(Challenge storage c) private view returns (ChallengeStatus) {
        if (c.challenger == address(0)) return ChallengeStatus.Uninitialized;
        if (c.resolvedBlock != 0) return ChallengeStatus.Resolved;
        return block.number <= c.startBlock + resolveWindow ? ChallengeStatus.Active : ChallengeStatus.Expired;
    }

    function _distribute(Challenge storage c, uint256 length, address resolver) private {
        uint256 locked = c.lockedBond;
        c.lockedBond = 0;
        uint256 gas = fixedResolutionCost + length * variableResolutionCost / variableResolutionCostPrecision;
        uint256 cost = gas * block.basefee;
        if (locked > cost) {
            _credit(c.challenger, locked - cost);
            locked = cost;
        }
        uint256 refund = cost * resolverRefundPercentage / 100;
        if (refund > locked) refund = locked;
        if (refund > 0) _credit(resolver, refund);
        if (locked > refund) Address.sendValue(payable(address(0)), locked - refund);
    }

    function _credit(address account, uint256 amount) private {
        balances[account] += amount;
        emit BalanceChanged(account, balances[account]);
    }

    function _setBondSize(uint256 size) private {
        bondSize = size;
        emit RequiredBondSizeChanged(size);
    }

    function _setResolverRefundPercentage(uint256 percentage) private {
        if (percentage > 100) revert InvalidResolverRefundPercentage(percentage);
        resolverRefundPercentage = percentage;
        emit ResolverRefundPercentageChanged(percentage);
    }
}
