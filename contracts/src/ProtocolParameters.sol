// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {IEpochClock} from "./interfaces/IEpochClock.sol";
import {IProtocolParameters} from "./interfaces/IProtocolParameters.sol";
import {Split} from "./libraries/Split.sol";
import {Parameters} from "./types/Records.sol";

/// @title The governed parameters, by epoch
/// @notice See IProtocolParameters.
contract ProtocolParameters is AccessManaged, IProtocolParameters {
    struct Version {
        uint64 fromEpoch;
        bytes32 digest;
        Parameters parameters;
    }

    /// @dev Number of fields of Parameters.
    uint256 private constant FIELDS = 15;

    /// @inheritdoc IProtocolParameters
    IEpochClock public immutable clock;
    /// @inheritdoc IProtocolParameters
    address public immutable treasury;

    /// @dev Ordered by `fromEpoch`; only the last one can still be replaced, while it is pending.
    Version[] private _versions;
    Parameters private _min;
    Parameters private _max;

    /// @param authority The AccessManager.
    /// @param clock_ InferenceSettlement, which is deployed next and checks that it is this one.
    /// @param treasury_ Where registration fees go.
    /// @param genesis Parameters from the first epoch on.
    /// @param min Lowest value of every field, for ever.
    /// @param max Highest value of every field, for ever.
    constructor(
        address authority,
        IEpochClock clock_,
        address treasury_,
        Parameters memory genesis,
        Parameters memory min,
        Parameters memory max
    ) AccessManaged(authority) {
        if (authority == address(0) || address(clock_) == address(0) || treasury_ == address(0)) {
            revert ZeroAddress();
        }
        clock = clock_;
        treasury = treasury_;
        _min = min;
        _max = max;
        _check(genesis, min, max);
        _push(0, genesis);
    }

    /// @inheritdoc IProtocolParameters
    function set(Parameters calldata parameters) external restricted {
        _check(parameters, _min, _max);
        uint64 fromEpoch = clock.openEpoch() + 1;
        // A change that has not begun is replaced: one version an epoch at most.
        if (_versions[_versions.length - 1].fromEpoch >= fromEpoch) _versions.pop();
        _push(fromEpoch, parameters);
    }

    /// @inheritdoc IProtocolParameters
    function parametersAt(uint64 epoch) public view returns (Parameters memory) {
        return _at(epoch).parameters;
    }

    /// @inheritdoc IProtocolParameters
    function digestAt(uint64 epoch) external view returns (bytes32) {
        return _at(epoch).digest;
    }

    /// @inheritdoc IProtocolParameters
    function termsAt(uint64 epoch) external view returns (bytes32 digest, uint64 challengeWindow) {
        Version storage version = _at(epoch);
        return (version.digest, version.parameters.challengeWindow);
    }

    /// @inheritdoc IProtocolParameters
    function current() external view returns (Parameters memory) {
        return parametersAt(clock.openEpoch());
    }

    /// @inheritdoc IProtocolParameters
    function versions() external view returns (uint64[] memory fromEpochs) {
        fromEpochs = new uint64[](_versions.length);
        for (uint256 i = 0; i < fromEpochs.length; ++i) {
            fromEpochs[i] = _versions[i].fromEpoch;
        }
    }

    /// @inheritdoc IProtocolParameters
    function bounds() external view returns (Parameters memory min, Parameters memory max) {
        return (_min, _max);
    }

    function _push(uint64 fromEpoch, Parameters memory parameters) private {
        bytes32 digest = keccak256(abi.encode(parameters));
        _versions.push(Version(fromEpoch, digest, parameters));
        emit ParametersSet(fromEpoch, digest, parameters);
    }

    /// @dev The last version that begins at or before `epoch`. The newest two answer nearly every
    /// call, so the search starts there.
    function _at(uint64 epoch) private view returns (Version storage version) {
        uint256 high = _versions.length - 1;
        version = _versions[high];
        if (version.fromEpoch <= epoch) return version;
        uint256 low = 0;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_versions[middle + 1].fromEpoch <= epoch) low = middle + 1;
            else high = middle;
        }
        version = _versions[low];
    }

    function _check(Parameters memory p, Parameters memory min, Parameters memory max) private pure {
        uint256[FIELDS] memory value = _words(p);
        uint256[FIELDS] memory low = _words(min);
        uint256[FIELDS] memory high = _words(max);
        for (uint256 i = 0; i < FIELDS; ++i) {
            if (value[i] < low[i] || value[i] > high[i]) revert OutOfBounds(i, value[i], low[i], high[i]);
        }
        uint256 sum =
            uint256(p.contributorsBps) + p.operatorBps + p.modelOwnerBps + p.stakersBps + p.treasuryBps;
        if (sum != Split.WHOLE) revert SplitNotWhole(sum);
    }

    /// @dev In memory a struct of value types is one word a field, which is also the layout of a
    /// fixed-size array.
    function _words(Parameters memory p) private pure returns (uint256[FIELDS] memory words) {
        assembly ("memory-safe") {
            words := p
        }
    }
}
