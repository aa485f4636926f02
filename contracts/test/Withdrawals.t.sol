// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Withdrawals} from "../src/libraries/Withdrawals.sol";
import {OutputRootProof, WithdrawalTransaction} from "../src/types/Rollup.sol";
import {Network} from "./utils/Network.sol";

/// @notice A withdrawal and its proof as others make them: 43 messages were sent with these contracts on
/// anvil 1.7.1, the proof is its eth_getProof, and the hashes are viem 2.57's.
contract WithdrawalsTest is Network {
    function withdrawal() internal pure returns (WithdrawalTransaction memory) {
        return WithdrawalTransaction({
            nonce: 1_766_847_064_778_384_329_583_297_500_742_918_515_827_483_896_875_618_958_121_606_201_292_619_816,
            sender: 0x4F50454E00000000000000000000000000000001,
            target: 0xDc64a140Aa3E981100a9becA4E685f962f0cF6C9,
            value: 0,
            gasLimit: 300_000,
            data: hex"0357371d000000000000000000000000f39fd6e51aad88f6f4ce6ab8827279cfffb922660000000000000000000000000000000000000000000000004563918244f40000"
        });
    }

    function proofOf() internal pure returns (bytes[] memory proof) {
        proof = new bytes[](3);
        proof[0] =
            hex"f90211a07fa019c17109dc73bbca2a2f346c4b37758aff63fe78bd088ce6737b8df8b3dfa0f3e28e3ce750b2484bbbba6daf0b1ad62257b434139e30319ca761c6b1b9780ca014be7c1c80f4b2dff41626f221fdfe72b3ae187b0aa5bfda1c42f9c33924259aa050fddcb58e8a28d6afe61fbc401fabccdac66373dbee2647f0bfb09eb141399ba00fac70650aff6f48038e67f82161647de5fe53c7f72d17e069b9104828419e71a04580bda8069dcafef376390fd9d1d3daa9f784294ad7535ab94b5340ac4a30cba0593dbfb77b6e85ec4a0d2a8616e66275788e1dfe306d0524c155bba206190acea08b4aa0b85b184edb38e1827ad1eb5bc04ef8ead308a6cdd836adef614fa5238ca0e732c7b77fcd7bb5a752de58bdc5f18dd430d0fa4489d85982eb09eca207aecaa08dd4d0cfa2c6e491bf4a01101019736c4ed79fedcdd1468e49f182297648dadfa08938131127a2bc130c30aba5b802bc7f6c4404ceb3a25ccd6436e15dd4db2097a0da3419481e9fe660eb0c8f404836c457f6ee82ed165c36e6f7fb59226be3fa4ba0e4ec414f2514ac5ce151c09fc436a6b978d09b9fb83d6e23bc3407525386facaa0c469d138e50fcec0b98e489522dc54719c3dec1394a86149eee979445c24f701a0d09cb06ec5ecbbf52dd0e6fd50a042f163b31ac24740276d0f25a821c30a512ca0689a44237fdd5d6f46297c83963d36306da6b930d7f1add0f722e8b5552cfd6280";
        proof[1] =
            hex"f8518080808080a0625e01ea937dd99d825915e06459727103cf9618da5d63fa069c63cb49ba34708080a0470a1f7265408867347b4107ff8b7ecba491d08f9ffd55d809db40b41cde58d28080808080808080";
        proof[2] = hex"e2a0200cb567036708556380ec1fe6f56ad74e1c2cf2bc89c6d13139f2459a52114101";
    }

    bytes32 internal constant HASH = 0x80ed91929f70cdf976f5901f1385f72bd3b5a97b2d736aa18598ded36b2f8b4d;
    bytes32 internal constant STORAGE_ROOT =
        0xb1320d63bdae378e1b452babcbc54ed6e6e5d3ee5c7459e65e4b8c61fdc4bf7f;

    function testHashes() public pure {
        eq(Withdrawals.hash(withdrawal()), HASH, "withdrawal");
        OutputRootProof memory out = OutputRootProof({
            version: 0x0000000000000000000000000000000000000000000000000000000000000000,
            stateRoot: 0xf0d0144c73b677f0055306c6f52d4dc4c20ded23d4a9e47af187528304dff0eb,
            messagePasserStorageRoot: STORAGE_ROOT,
            latestBlockhash: 0x56457c5551319537ac2da8b6b0611a06369ed7da9d81f4a43a73ba6d5829a2fc
        });
        eq(
            Withdrawals.outputRoot(out),
            0xc002338e89e958fa03eaf75ee09d6e67f6f9349b392d10154693a2be3ec9f44c,
            "root"
        );
    }

    function testProof() public pure {
        yes(Withdrawals.isSent(STORAGE_ROOT, HASH, proofOf()), "sent");
        yes(!Withdrawals.isSent(keccak256("other"), HASH, proofOf()), "other root");
    }

    function isSent(bytes32 hash, bytes[] memory proof) external pure returns (bool) {
        return Withdrawals.isSent(STORAGE_ROOT, hash, proof);
    }

    /// @dev Any change of any byte makes the proof fail, by false or by a revert.
    function testChangedProof(uint256 node, uint256 place, uint8 change) public view {
        vm.assume(change != 0);
        bytes[] memory proof = proofOf();
        node %= proof.length;
        place %= proof[node].length;
        proof[node][place] ^= bytes1(change);
        try this.isSent(HASH, proof) returns (bool sent) {
            yes(!sent, "changed proof");
        } catch {}
    }

    function testOtherMessage(bytes32 hash) public view {
        vm.assume(hash != HASH);
        try this.isSent(hash, proofOf()) returns (bool sent) {
            yes(!sent, "other message");
        } catch {}
    }
}
