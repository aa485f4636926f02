#![allow(clippy::unwrap_used, reason = "tests")]
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;

fn columns(given: &[&str]) -> Columns {
    let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
    Columns::parse(&given).unwrap()
}

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn patterns_are_filled_or_refused() {
    let row = serde_json::json!({"a": "x", "n": 7, "none": null, "list": [1]});
    assert_eq!(fill("{a}-{n}{none}!", &row).unwrap(), "x-7!");
    assert!(fill("{b}", &row).unwrap_err().contains("`b`"));
    assert!(fill("{list}", &row).unwrap_err().contains("`list`"));
    assert!(fill("{a", &row).unwrap_err().contains("open brace"));
    assert!(Columns::parse(&["{a".to_owned()]).is_err());
    assert!(Columns::parse(&["a", "b", "c"].map(str::to_owned)).is_err());
}

#[test]
fn rows_without_the_column_are_counted_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let text = [
        r#"{"q": "One?", "a": "1"}"#,
        r#"{"q": "Two?"}"#,
        "",
        r#"{"q": "Three?", "a": "  "}"#,
        "{ broken",
        r#"{"q": "Four?", "a": ["4"]}"#,
        r#"{"q": "Five?", "a": 5}"#,
    ]
    .join("\n");
    let path = file(dir.path(), "rows.jsonl", &text);
    let read = read(&path, &columns(&["q", "a"]), usize::MAX).unwrap();
    let ids: Vec<u32> = read.rows().iter().map(|row| row.id).collect();
    assert_eq!(ids, [0, 6]);
    assert_eq!(
        read.rows()[1],
        Row::new(6, Some("Five?".into()), "5".into())
    );
    let lines: Vec<usize> = read.flaws().iter().map(|flaw| flaw.line).collect();
    assert_eq!(lines, [2, 4, 5, 6]);
    let message = read.strict().unwrap_err().to_string();
    for words in [
        "rows.jsonl",
        "4 of 6",
        "line 2: no column `a`; there are q",
        "and 1 more",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn a_file_without_rows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let empty = file(dir.path(), "empty.jsonl", "\n\n");
    let error = read(&empty, &columns(&["q"]), 9).unwrap_err();
    assert!(matches!(error, Error::NoRowsIn { .. }), "{error}");
    let other = file(dir.path(), "other.jsonl", "{\"x\": 1}\n");
    let error = read(&other, &columns(&["q"]), 9).unwrap_err();
    assert!(matches!(error, Error::Rows { of: 1, .. }), "{error}");
    let csv = file(dir.path(), "rows.csv", "q\n1\n");
    let error = read(&csv, &columns(&["q"]), 9).unwrap_err();
    assert!(error.to_string().contains(".parquet"), "{error}");
}

#[test]
fn conversations_are_read_or_refused_message_by_message() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"}, {"role": "assistant", "content": "1"}]}"#
        .replace('\n', " ");
    let lines = [
        good.as_str(),
        r#"{"messages": [{"role": "user", "content": "One?"}]}"#,
        r#"{"messages": [{"role": "robot", "content": "One?"}]}"#,
        r#"{"messages": [{"role": "user"}]}"#,
        r#"{"messages": "One?"}"#,
    ];
    let path = file(dir.path(), "chat.jsonl", &lines.join("\n"));
    let read = read(&path, &columns(&[]), usize::MAX).unwrap();
    let Content::Conversation(turns) = &read.rows()[0].content else {
        panic!("{:?}", read.rows());
    };
    assert_eq!(turns.len(), 3);
    assert_eq!(
        (turns[2].role, turns[2].content.as_str()),
        (Role::Assistant, "1")
    );
    let reasons: Vec<&str> = read
        .flaws()
        .iter()
        .map(|flaw| flaw.reason.as_str())
        .collect();
    for (reason, word) in reasons
        .iter()
        .zip(["no answer", "robot", "content", "list"])
    {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    assert_eq!(reasons.len(), 4);
}

/// A file of questions, answers (some null) and numbers.
fn write_parquet(path: &Path, compression: Compression) {
    let schema =
        "message rows { optional binary q (UTF8); optional binary a (UTF8); required int32 n; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let text = |texts: &[&str]| {
        texts
            .iter()
            .map(|t| ByteArray::from(*t))
            .collect::<Vec<_>>()
    };
    for (values, levels) in [
        (text(&["One?", "Two?", "Three?"]), [1, 1, 1]),
        (text(&["1", "3"]), [1, 0, 1]),
    ] {
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<Int32Type>();
    typed.write_batch(&[10, 20, 30], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_rows_are_those_of_the_columns() {
    let dir = tempfile::tempdir().unwrap();
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        let path = dir.path().join("rows.parquet");
        write_parquet(&path, codec);
        let read = read(&path, &columns(&["{n}: {q}", "a"]), usize::MAX).unwrap();
        let expected = [(0, "10: One?", "1"), (2, "30: Three?", "3")]
            .map(|(id, q, a)| Row::new(id, Some(q.into()), a.into()));
        assert_eq!(read.rows(), expected);
        assert_eq!(read.flaws().len(), 1);
        assert_eq!(read.flaws()[0].line, 2);
        let error = super::read(&path, &columns(&["b"]), 9)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`b`") && error.contains("q, a, n"),
            "{error}"
        );
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let error = super::read(&path, &columns(&["q"]), 9)
            .unwrap_err()
            .to_string();
        assert!(error.contains("rows.parquet"), "{error}");
    }
}
