// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title How long FastLZ (level 1) would make some bytes
/// @notice The L1 fee charges a transaction by this length (Fjord). Nothing is compressed here; only
/// the length of each literal run and each match is added up. The node computes the same number.
library FastLz {
    /// @dev Bytes before the end at which no match may start.
    uint256 private constant TAIL = 13;
    /// @dev A match reaches back fewer bytes than this.
    uint256 private constant REACH = 8192;
    /// @dev Longest match that one instruction copies.
    uint256 private constant LONGEST = 262;
    uint256 private constant LONGEST_LITERALS = 32;

    /// @notice The compressed length of `data`.
    function compressedLength(bytes memory data) internal pure returns (uint256 size) {
        uint256 limit = data.length < TAIL ? 0 : data.length - TAIL;
        uint256 literalsFrom = 0;
        // Where each hash of three bytes was last seen: 8192 numbers of 4 bytes.
        bytes memory seen = new bytes(REACH * 4);
        uint256 pos = 2;
        while (pos < limit) {
            uint256 from;
            (pos, from) = _nextMatch(data, seen, pos, limit);
            if (pos >= limit) break;
            size += _literals(pos - literalsFrom);
            uint256 length = _matchLength(data, from + 3, pos + 3, limit + 9);
            size += _match(length);
            pos += length;
            _put(seen, _three(data, pos), pos);
            _put(seen, _three(data, pos + 1), pos + 1);
            pos += 2;
            literalsFrom = pos;
        }
        size += _literals(data.length - literalsFrom);
    }

    /// @dev The first position from `pos` on whose three bytes appeared at `from`, within reach.
    function _nextMatch(bytes memory data, bytes memory seen, uint256 pos, uint256 limit)
        private
        pure
        returns (uint256, uint256 from)
    {
        for (; pos < limit; ++pos) {
            uint256 word = _three(data, pos);
            from = _put(seen, word, pos);
            // The reference looks at the end of the range before it compares, so the last position
            // never starts a match.
            if (pos - from < REACH && pos + 1 < limit && word == _three(data, from)) return (pos, from);
        }
        return (pos, 0);
    }

    /// @dev Equal bytes after the first three, plus one, as the reference counts.
    function _matchLength(bytes memory data, uint256 p, uint256 q, uint256 end)
        private
        pure
        returns (uint256 length)
    {
        uint256 room = end - q;
        while (length < room) {
            bool same = data[p + length] == data[q + length];
            ++length;
            if (!same) break;
        }
    }

    function _literals(uint256 count) private pure returns (uint256) {
        uint256 rest = count % LONGEST_LITERALS;
        return count / LONGEST_LITERALS * (LONGEST_LITERALS + 1) + (rest == 0 ? 0 : rest + 1);
    }

    function _match(uint256 length) private pure returns (uint256) {
        uint256 more = length - 1;
        return more / LONGEST * 3 + (more % LONGEST >= 6 ? 3 : 2);
    }

    /// @dev Three bytes at `pos`, the first lowest.
    function _three(bytes memory data, uint256 pos) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            let w := mload(add(add(data, 32), pos))
            word := or(byte(0, w), or(shl(8, byte(1, w)), shl(16, byte(2, w))))
        }
    }

    /// @dev Notes that `word` is at `pos`; gives where it was before, zero if nowhere.
    function _put(bytes memory seen, uint256 word, uint256 pos) private pure returns (uint256 before) {
        uint256 hash = (word * 2_654_435_769 >> 19) & 0x1fff;
        assembly ("memory-safe") {
            let slot := add(add(seen, 32), shl(2, hash))
            let w := mload(slot)
            before := shr(224, w)
            mstore(slot, xor(w, shl(224, xor(before, pos))))
        }
    }
}
