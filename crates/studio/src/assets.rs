//! The files that a browser loads besides the pages, embedded in the binary.

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Files;

/// Serves `/assets/*`, `/favicon.svg` and `/favicon.ico`.
///
/// Files are named with their digest by the pages (`?v=`), so a browser may keep them for ever
/// and still gets a new one after an update.
pub fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/assets/{*path}", get(asset))
        .route("/favicon.svg", get(favicon))
        .route("/favicon.ico", get(favicon))
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&path, &headers)
}

async fn favicon(headers: HeaderMap) -> Response {
    serve("favicon.svg", &headers)
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let tag = format!("\"{}\"", version(&file));
    let cache = [
        (header::ETAG, tag.clone()),
        (
            header::CACHE_CONTROL,
            "public, max-age=31536000, immutable".to_owned(),
        ),
    ];
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    let kind = [(header::CONTENT_TYPE, media_type(path))];
    (cache, kind, file.data.into_owned()).into_response()
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// The first eight bytes of the file's SHA-256 as hex.
fn version(file: &EmbeddedFile) -> String {
    file.metadata.sha256_hash()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Where a page finds the asset `path`, with its version.
pub(crate) fn url(path: &str) -> String {
    Files::get(path).map_or_else(
        || format!("/assets/{path}"),
        |file| format!("/assets/{path}?v={}", version(&file)),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The licence asks for nothing, but what we ship must be what we say it is.
    #[test]
    fn vendored_files_match_their_checksums() {
        let list = Files::get("vendor/SHA256SUMS").unwrap();
        let list = std::str::from_utf8(&list.data).unwrap();
        let mut checked = 0;
        for line in list.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            let file = Files::get(&format!("vendor/{name}")).unwrap();
            let ours: String = file
                .metadata
                .sha256_hash()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(ours, sum, "{name}");
            checked += 1;
        }
        assert_eq!(checked, 3);
    }

    #[test]
    fn pages_name_assets_with_their_version() {
        assert!(url("app.css").starts_with("/assets/app.css?v="));
        assert_eq!(url("none.css"), "/assets/none.css");
    }

    /// A style sheet that outgrows this is a framework.
    #[test]
    fn the_style_sheet_stays_small() {
        let css = Files::get("app.css").unwrap();
        assert!(css.data.len() < 32_000, "{} bytes", css.data.len());
    }
}
