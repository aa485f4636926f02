//! What stands between the pages and somebody else's web site.
//!
//! On the dev chain the node holds the contributors' keys and signs for them, so another site
//! must be unable to make a visitor's browser send us a form, frame our pages or read them.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use openledger_node::api::is_local_host;

/// No inline script or style, nothing from elsewhere, no framing, forms only to ourselves.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// Under which names the pages may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Any name: the operator's proxy decides.
    Any,
    /// `localhost` or an IP address only. A node that signs with its visitors' keys must not
    /// answer to a name that another site made point here (DNS rebinding).
    Local,
}

/// Refuses requests that another site caused, and adds the security headers to each answer.
pub async fn guard(State(host): State<Host>, request: Request, next: Next) -> Response {
    // Paths below /v1 end up here only to be told that they do not exist, in the API's own shape.
    let refused = match request.uri().path().starts_with("/v1") {
        true => None,
        false => refuse(host, request.method(), request.headers()),
    };
    let mut response = match refused {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refuse(host: Host, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = text(header::HOST);
    if host == Host::Local && !asked.is_some_and(is_local_host) {
        return Some((
            StatusCode::MISDIRECTED_REQUEST,
            "this development node answers to localhost and IP addresses only\n",
        ));
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    // Browsers send both; a form from another site cannot fake either (Fetch standard).
    let same_site = match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin",
        None => text(header::ORIGIN).is_some_and(|origin| {
            origin.split_once("://").map(|(_, host)| host) == asked && asked.is_some()
        }),
    };
    (!same_site).then_some((
        StatusCode::FORBIDDEN,
        "this form must be sent from its own page; programs use the API under /v1\n",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn check(host: Host, method: Method, headers: &[(&'static str, &str)]) -> Option<u16> {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        refuse(host, &method, &map).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn forms_from_other_sites_are_refused() {
        let here = ("host", "127.0.0.1:8080");
        let post = |extra: &[(&'static str, &str)]| {
            let mut headers = vec![here];
            headers.extend_from_slice(extra);
            check(Host::Local, Method::POST, &headers)
        };
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), None);
        assert_eq!(post(&[("origin", "http://127.0.0.1:8080")]), None);
        assert_eq!(post(&[("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(post(&[("sec-fetch-site", "same-site")]), Some(403));
        assert_eq!(post(&[("origin", "https://evil.example")]), Some(403));
        assert_eq!(post(&[("origin", "null")]), Some(403));
        assert_eq!(post(&[]), Some(403));
    }

    #[test]
    fn rebound_names_are_refused_where_the_node_signs() {
        let get = |host: Host, name: &str| check(host, Method::GET, &[("host", name)]);
        for name in [
            "localhost:8080",
            "127.0.0.1",
            "[::1]:8080",
            "192.168.1.7:80",
        ] {
            assert_eq!(get(Host::Local, name), None, "{name}");
        }
        for name in ["evil.example:8080", "localhost.evil.example", "[evil]", ""] {
            assert_eq!(get(Host::Local, name), Some(421), "{name}");
            assert_eq!(get(Host::Any, name), None, "{name}");
        }
    }
}
