// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DatasetVersion} from "../types/Records.sol";

/// @title Datanets: who curates them, under which policy, and their sealed versions
/// @notice A Datanet is an ERC-721 token; its owner is the curator. Contributions are not tokens.
interface IDatanetRegistry {
    /// @notice A Datanet was created and its fee paid to the treasury.
    event DatanetCreated(
        uint64 indexed datanet,
        address indexed owner,
        string name,
        string licence,
        bytes32 policyHash,
        string schema,
        address commons,
        uint256 fee
    );
    /// @notice The sanitising and deduplication policy of future versions changed.
    event PolicyChanged(uint64 indexed datanet, bytes32 policyHash);
    /// @notice A version was sealed; its digest is what training runs name.
    event VersionPublished(
        uint64 indexed datanet,
        uint64 indexed number,
        bytes32 indexed digest,
        bytes32 parent,
        bytes32 rowsRoot,
        bytes32 clustersRoot,
        bytes32 policyHash,
        uint64 accepted,
        uint64 rejected
    );
    /// @notice Contributions to the Datanet were stopped (or allowed again).
    event PausedChanged(uint64 indexed datanet, bool paused, address by);

    /// @notice There is no Datanet with this id.
    error NoSuchDatanet(uint64 datanet);
    /// @notice `caller` may not do this to the Datanet.
    error NotCurator(uint64 datanet, address caller);
    /// @notice The Datanet takes no contributions now.
    error Paused(uint64 datanet);
    /// @notice The fee must be sent exactly.
    error WrongFee(uint256 expected, uint256 sent);
    /// @notice The treasury refused the fee.
    error TreasuryRefused();
    /// @notice The name is empty or longer than 64 bytes.
    error BadName();
    /// @notice The record does not continue the Datanet's chain of versions: `field` is the first
    /// wrong one.
    error BadVersion(string field);

    /// @notice Creates a Datanet owned by the caller, who pays the Datanet fee.
    /// @param licence SPDX licence id of everything in it.
    /// @param policyHash Digest of the sanitising and deduplication policy.
    /// @param schema What a row holds, for people (a URI or JSON).
    function create(string calldata name, string calldata licence, bytes32 policyHash, string calldata schema)
        external
        payable
        returns (uint64 datanet);

    /// @notice Sets the policy of future versions. Curator only.
    function setPolicy(uint64 datanet, bytes32 policyHash) external;

    /// @notice Stops or allows contributions. The curator, or a guardian of the authority.
    function setPaused(uint64 datanet, bool paused) external;

    /// @notice Seals the next version. Curator only; number, parent and policy must continue.
    function publishVersion(DatasetVersion calldata version) external returns (bytes32 digest);

    /// @notice Reverts unless the Datanet exists and takes contributions.
    function requireOpen(uint64 datanet) external view;

    /// @notice The Datanet's state.
    function info(uint64 datanet)
        external
        view
        returns (bytes32 policyHash, uint64 latest, bool paused, address owner);

    /// @notice Digest of version `number`; zero if there is none.
    function versionDigest(uint64 datanet, uint64 number) external view returns (bytes32);

    /// @notice The vault that is paid what no contributor earned.
    function commons(uint64 datanet) external view returns (address);

    /// @notice Number of Datanets; their ids run from 1.
    function count() external view returns (uint64);
}
