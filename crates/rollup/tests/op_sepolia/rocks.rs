//! Just enough of `RocksDB`'s file formats to read a small database without it: the write-ahead
//! log and block-based tables (`log_format.h`, `write_batch.cc`, `block_based/format.cc`).

/// Called for every key and value.
pub(crate) type Keep<'a> = dyn FnMut(&[u8], &[u8]) + 'a;

/// LEB128, as `RocksDB`'s varint32 and varint64.
fn varint(bytes: &mut &[u8]) -> usize {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return usize::try_from(value).unwrap();
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    taken
}

fn u32_le(bytes: &[u8]) -> usize {
    usize::try_from(u32::from_le_bytes(bytes[..4].try_into().unwrap())).unwrap()
}

/// A log: 32 KiB blocks of records (crc u32, length u16, type u8, payload); a payload split over
/// records has types first, middle, last. Each payload is a write batch.
pub(crate) fn read_log(log: &[u8], keep: &mut Keep<'_>) {
    const FULL: u8 = 1;
    const FIRST: u8 = 2;
    const MIDDLE: u8 = 3;
    const LAST: u8 = 4;
    let mut batch = Vec::new();
    for mut block in log.chunks(32 << 10) {
        while block.len() >= 7 {
            let len = usize::from(u16::from_le_bytes([block[4], block[5]]));
            let kind = block[6];
            block = &block[7..];
            let payload = take(&mut block, len);
            match kind {
                FULL | FIRST => batch = payload.to_vec(),
                MIDDLE | LAST => batch.extend_from_slice(payload),
                0 => break, // padding
                other => panic!("log record type {other}"),
            }
            if matches!(kind, FULL | LAST) {
                read_batch(&batch, keep);
            }
        }
    }
}

/// A write batch: sequence u64, count u32, then per entry a tag and length-prefixed strings.
fn read_batch(batch: &[u8], keep: &mut Keep<'_>) {
    const PUT: u8 = 1;
    let count = u32_le(&batch[8..]);
    let mut rest = &batch[12..];
    for _ in 0..count {
        assert_eq!(take(&mut rest, 1), [PUT], "the databases only hold puts");
        let len = varint(&mut rest);
        let key = take(&mut rest, len);
        let len = varint(&mut rest);
        keep(key, take(&mut rest, len));
    }
}

/// A block-based table of format version 6: data blocks, an index block over them, a metaindex
/// block that names the index, and a 53-byte footer (checksum type u8, extended magic u32, two
/// checksums u32, metaindex length u32, 24 zeros, format version u32, magic u64).
pub(crate) fn read_table(table: &[u8], keep: &mut Keep<'_>) {
    let footer_at = table.len() - 53;
    let footer = &table[footer_at..];
    assert_eq!(
        footer[45..],
        0x88e2_41b7_85f4_cff7_u64.to_le_bytes(),
        "table magic"
    );
    assert_eq!(u32_le(&footer[41..]), 6, "format version");
    let meta_len = u32_le(&footer[13..]);
    let metaindex = block(table, footer_at - meta_len - 5, meta_len);
    let mut index = Vec::new();
    each_entry(&metaindex, &mut |key, mut handle| {
        if key == b"rocksdb.index" {
            let (at, len) = (varint(&mut handle), varint(&mut handle));
            index = block(table, at, len);
        }
    });
    let mut rest = entries(&index);
    let mut data: Option<(usize, usize)> = None;
    while !rest.is_empty() {
        // Since version 4 an entry has no value length; its value is a handle, or after the first
        // of a restart interval only the zigzag difference of the block's size.
        let shared = varint(&mut rest);
        let own = varint(&mut rest);
        take(&mut rest, own);
        let handle = match data {
            Some((at, len)) if shared > 0 => {
                let zigzag = varint(&mut rest);
                let half = zigzag >> 1;
                let next = if zigzag & 1 == 0 {
                    len + half
                } else {
                    len - half - 1
                };
                (at + len + 5, next)
            }
            _ => (varint(&mut rest), varint(&mut rest)),
        };
        data = Some(handle);
        // A key ends with eight bytes of sequence number and type.
        each_entry(&block(table, handle.0, handle.1), &mut |key, value| {
            keep(&key[..key.len() - 8], value);
        });
    }
}

/// A block's content, decompressed; a type byte and a checksum follow it.
fn block(table: &[u8], at: usize, len: usize) -> Vec<u8> {
    match table[at + len] {
        0 => table[at..at + len].to_vec(),
        1 => snap::raw::Decoder::new()
            .decompress_vec(&table[at..at + len])
            .unwrap(),
        other => panic!("block compression type {other}"),
    }
}

/// The entries of a block, without the restart offsets (u32 each) and their count (u32) at its end.
fn entries(block: &[u8]) -> &[u8] {
    let restarts = u32_le(&block[block.len() - 4..]);
    &block[..block.len() - 4 * (restarts + 1)]
}

/// Entries: shared and own key length, value length, own key part, value.
fn each_entry(block: &[u8], keep: &mut Keep<'_>) {
    let mut rest = entries(block);
    let mut key: Vec<u8> = Vec::new();
    while !rest.is_empty() {
        let shared = varint(&mut rest);
        let own = varint(&mut rest);
        let len = varint(&mut rest);
        key.truncate(shared);
        key.extend_from_slice(take(&mut rest, own));
        keep(&key, take(&mut rest, len));
    }
}
