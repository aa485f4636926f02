// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title What a Datanet earned that no contributor did
/// @notice Uncovered text, scores below the thresholds and dust go here, so nobody gains from
/// another's loss. Each Datanet has its own vault, a clone of one implementation; only governance
/// can spend from it, for the good of that Datanet.
contract CommonsVault {
    /// @notice Coins were spent for the Datanet.
    event Released(address indexed to, uint256 amount);

    /// @notice The caller may not spend.
    error Unauthorised(address caller);

    IAccessManager private immutable _authority;
    address private immutable _registry;

    /// @dev Deployed by DatanetRegistry as the implementation of all vaults.
    constructor(address authority) {
        _authority = IAccessManager(authority);
        _registry = msg.sender;
    }

    receive() external payable {}

    /// @notice Spends `amount`. The role is looked up for the registry and this function's selector,
    /// so that one setting serves the vaults of all Datanets.
    function release(address payable to, uint256 amount) external {
        (bool allowed,) = _authority.canCall(msg.sender, _registry, this.release.selector);
        if (!allowed) revert Unauthorised(msg.sender);
        emit Released(to, amount);
        Address.sendValue(to, amount);
    }
}
