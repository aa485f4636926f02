// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

import {CommonsVault} from "./CommonsVault.sol";
import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {IProtocolParameters} from "./interfaces/IProtocolParameters.sol";
import {Payouts} from "./libraries/Payouts.sol";
import {DatasetVersion, RECORD_VERSION} from "./types/Records.sol";

/// @title Datanets: who curates them, under which policy, and their sealed versions
/// @notice See IDatanetRegistry.
contract DatanetRegistry is ERC721, AccessManaged, IDatanetRegistry {
    struct Datanet {
        bytes32 policyHash;
        uint64 latest;
        bool paused;
    }

    IProtocolParameters public immutable parameters;
    /// @notice Implementation behind every Datanet's commons.
    address public immutable commonsImplementation;

    /// @inheritdoc IDatanetRegistry
    uint64 public count;
    mapping(uint64 datanet => Datanet) private _datanets;
    mapping(uint64 datanet => mapping(uint64 number => bytes32 digest)) private _versions;

    constructor(address authority, IProtocolParameters parameters_)
        ERC721("OpenLedger Datanet", "DATANET")
        AccessManaged(authority)
    {
        parameters = parameters_;
        commonsImplementation = address(new CommonsVault(authority));
    }

    /// @inheritdoc IDatanetRegistry
    function create(
        string calldata name_,
        string calldata licence,
        bytes32 policyHash,
        string calldata schema
    ) external payable returns (uint64 datanet) {
        if (bytes(name_).length == 0 || bytes(name_).length > 64) revert BadName();
        uint256 fee = parameters.current().datanetFee;
        if (msg.value != fee) revert WrongFee(fee, msg.value);

        datanet = ++count;
        _datanets[datanet].policyHash = policyHash;
        _mint(msg.sender, datanet);
        address vault = Clones.cloneDeterministic(commonsImplementation, _salt(datanet));
        emit DatanetCreated(datanet, msg.sender, name_, licence, policyHash, schema, vault, fee);

        if (fee > 0 && !Payouts.trySend(parameters.treasury(), fee)) revert TreasuryRefused();
    }

    /// @inheritdoc IDatanetRegistry
    function setPolicy(uint64 datanet, bytes32 policyHash) external {
        _requireCurator(datanet);
        _datanets[datanet].policyHash = policyHash;
        emit PolicyChanged(datanet, policyHash);
    }

    /// @inheritdoc IDatanetRegistry
    function setPaused(uint64 datanet, bool paused) external {
        if (msg.sender != _ownerOrRevert(datanet)) {
            (bool guardian,) = IAccessManager(authority()).canCall(msg.sender, address(this), msg.sig);
            if (!guardian) revert NotCurator(datanet, msg.sender);
        }
        _datanets[datanet].paused = paused;
        emit PausedChanged(datanet, paused, msg.sender);
    }

    /// @inheritdoc IDatanetRegistry
    function publishVersion(DatasetVersion calldata version) external returns (bytes32 digest) {
        uint64 datanet = version.datanet;
        _requireCurator(datanet);
        Datanet storage state = _datanets[datanet];
        if (version.version != RECORD_VERSION) revert BadVersion("version");
        if (version.chainId != block.chainid) revert BadVersion("chainId");
        if (version.number != state.latest + 1) revert BadVersion("number");
        if (version.parent != _versions[datanet][state.latest]) revert BadVersion("parent");
        if (version.policyHash != state.policyHash) revert BadVersion("policyHash");

        digest = keccak256(abi.encode(version));
        state.latest = version.number;
        _versions[datanet][version.number] = digest;
        uint64 rejected = 0;
        for (uint256 i = 0; i < version.rejected.length; ++i) {
            rejected += version.rejected[i].count;
        }
        emit VersionPublished(
            datanet,
            version.number,
            digest,
            version.parent,
            version.rowsRoot,
            version.clustersRoot,
            version.policyHash,
            version.accepted,
            rejected
        );
    }

    /// @inheritdoc IDatanetRegistry
    function requireOpen(uint64 datanet) external view {
        _ownerOrRevert(datanet);
        if (_datanets[datanet].paused) revert Paused(datanet);
    }

    /// @inheritdoc IDatanetRegistry
    function info(uint64 datanet)
        external
        view
        returns (bytes32 policyHash, uint64 latest, bool paused, address owner)
    {
        owner = _ownerOrRevert(datanet);
        Datanet storage state = _datanets[datanet];
        return (state.policyHash, state.latest, state.paused, owner);
    }

    /// @inheritdoc IDatanetRegistry
    function versionDigest(uint64 datanet, uint64 number) external view returns (bytes32) {
        return _versions[datanet][number];
    }

    /// @inheritdoc IDatanetRegistry
    function commons(uint64 datanet) external view returns (address) {
        _ownerOrRevert(datanet);
        return Clones.predictDeterministicAddress(commonsImplementation, _salt(datanet));
    }

    function _salt(uint64 datanet) private pure returns (bytes32) {
        return bytes32(uint256(datanet));
    }

    function _ownerOrRevert(uint64 datanet) private view returns (address owner) {
        owner = _ownerOf(datanet);
        if (owner == address(0)) revert NoSuchDatanet(datanet);
    }

    function _requireCurator(uint64 datanet) private view {
        if (msg.sender != _ownerOrRevert(datanet)) revert NotCurator(datanet, msg.sender);
    }
}
