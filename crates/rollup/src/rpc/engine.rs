//! `engine_`: the Engine API, behind a shared secret, so that a rollup node such as op-node can
//! drive this chain (execution-apis, "Engine API: Prague" and "Authentication"; OP Stack specs,
//! "Execution engine").

use super::{
    Context, RpcConfig, RpcServer, Shared,
    error::{RpcResult, invalid_params},
    methods::{self, answer, method},
};
use crate::{
    chain::ChainHandle,
    engine::{
        ForkChoice, PayloadId, PayloadStatus,
        payload::{Attributes, ExecutionPayload},
    },
    error::{Error, Result},
    sequencer::Clock,
};
use alloy_primitives::{B64, B256, Bytes, U256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonrpsee::{
    RpcModule,
    core::RegisterMethodError,
    server::{HttpBody, HttpRequest, HttpResponse, ServerBuilder},
    types::ErrorObjectOwned,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use std::{fmt, net::SocketAddr, sync::Arc};
use tower_http::validate_request::{ValidateRequest, ValidateRequestHeaderLayer};

/// Seconds that a token's `iat` may differ from the clock (Engine API, "Authentication").
const TOKEN_LIFE: u64 = 60;

const UNKNOWN_PAYLOAD: i32 = -38_001;
const INVALID_FORK_CHOICE: i32 = -38_002;
const INVALID_ATTRIBUTES: i32 = -38_003;
const UNSUPPORTED_FORK: i32 = -38_005;

const CAPABILITIES: [&str; 5] = [
    "engine_forkchoiceUpdatedV3",
    "engine_getPayloadV4",
    "engine_getPayloadV5",
    "engine_newPayloadV4",
    "engine_getClientVersionV1",
];

/// The secret that both sides of the Engine API know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JwtSecret([u8; 32]);

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret")
    }
}

impl JwtSecret {
    /// A secret from its 64 hexadecimal digits, with or without `0x`, as the file of every client
    /// has it.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        text.trim().parse::<B256>().ok().map(|bytes| Self(bytes.0))
    }

    /// A token for a request at `now` (Unix seconds).
    #[must_use]
    pub fn token(&self, now: u64) -> String {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let claims = part(json!({ "iat": now }));
        let signed = format!("{}.{claims}", part(json!({ "alg": "HS256", "typ": "JWT" })));
        let signature = self.mac(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether `token` was made with this secret within a minute of `now`.
    #[must_use]
    pub fn accepts(&self, token: &str, now: u64) -> bool {
        #[derive(Deserialize)]
        struct Head {
            alg: String,
        }
        #[derive(Deserialize)]
        struct Claims {
            iat: u64,
        }
        fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        }
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return false;
        };
        let Some((head, claims)) = signed.split_once('.') else {
            return false;
        };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
            return false;
        };
        // Compares in constant time.
        if self.mac(signed).verify_slice(&signature).is_err() {
            return false;
        }
        let signed_by_us = decode::<Head>(head).is_some_and(|head| head.alg == "HS256");
        let recent = |claims: Claims| claims.iat.abs_diff(now) <= TOKEN_LIFE;
        signed_by_us && decode::<Claims>(claims).is_some_and(recent)
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0);
        let mut mac = mac.expect("HMAC takes a key of any length");
        mac.update(signed.as_bytes());
        mac
    }
}

#[derive(Debug, Clone)]
struct Authorized {
    secret: JwtSecret,
    clock: Clock,
}

impl<B> ValidateRequest<B> for Authorized {
    type ResponseBody = HttpBody;

    fn validate(
        &mut self,
        request: &mut HttpRequest<B>,
    ) -> std::result::Result<(), HttpResponse<HttpBody>> {
        let token = request.headers().get("authorization");
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if token.is_some_and(|token| self.secret.accepts(token, self.clock.now().as_secs())) {
            return Ok(());
        }
        let text = "a token of the shared secret, not older than a minute, is required";
        let refusal = HttpResponse::builder().status(401);
        Err(refusal
            .body(HttpBody::from(text))
            .expect("401 is a status, and there are no headers"))
    }
}

/// Serves the Engine API, and the `eth_` methods that its users need beside it, to whoever knows
/// `secret`.
///
/// # Errors
/// [`Error::Bind`] when the address cannot be listened on.
pub async fn serve_engine(
    chain: ChainHandle,
    addr: SocketAddr,
    config: RpcConfig,
    secret: JwtSecret,
    clock: Clock,
) -> Result<RpcServer> {
    let bind = |reason: &dyn fmt::Display| Error::Bind {
        addr,
        reason: reason.to_string(),
    };
    let auth = ValidateRequestHeaderLayer::custom(Authorized { secret, clock });
    let server = ServerBuilder::with_config(config.settings())
        .set_http_middleware(tower::ServiceBuilder::new().layer(auth))
        .build(addr)
        .await
        .map_err(|e| bind(&e))?;
    let addr = server.local_addr().map_err(|e| bind(&e))?;
    let (context, released) = Context::new(chain, None);
    let mut module = RpcModule::new(context);
    methods::register(&mut module)
        .and_then(|()| register(&mut module))
        .map_err(|e| Error::InvalidTransaction(format!("method table: {e}")))?;
    let handle = server.start(module);
    Ok(RpcServer {
        addr,
        handle,
        released,
    })
}

/// `ForkchoiceStateV1`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    head_block_hash: B256,
    safe_block_hash: B256,
    finalized_block_hash: B256,
}

fn register(module: &mut RpcModule<Context>) -> std::result::Result<(), RegisterMethodError> {
    method!(module, "engine_exchangeCapabilities", |_cx, args| {
        let _theirs: Vec<String> = args.next()?;
        CAPABILITIES
    });
    method!(module, "engine_getClientVersionV1", |_cx, args| json!([{
        // No code is registered for this client.
        "code": "XX",
        "name": "openledger",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": "0x00000000",
    }]));
    method!(module, "engine_forkchoiceUpdatedV3", |cx, args| {
        fork_choice(cx, args.next()?, args.optional()?)?
    });
    method!(module, "engine_getPayloadV4", |cx, args| {
        get_payload(cx, args.next()?, false)?
    });
    // The same, but for the proofs of blobs that no block has; op-node asks for it since Karst.
    method!(module, "engine_getPayloadV5", |cx, args| {
        get_payload(cx, args.next()?, true)?
    });
    method!(module, "engine_newPayloadV4", |cx, args| {
        let payload: ExecutionPayload = args.next()?;
        let blobs: Vec<B256> = args.next()?;
        let beacon: B256 = args.next()?;
        let requests: Vec<Bytes> = args.next()?;
        if !blobs.is_empty() || !requests.is_empty() {
            return Err(invalid_params(
                "an OP Stack block has neither blobs nor requests",
            ));
        }
        new_payload(cx, payload, beacon)?
    });
    Ok(())
}

fn get_payload(cx: &Context, id: B64, karst: bool) -> RpcResult<Value> {
    let block = match cx.chain.engine().get_payload(PayloadId(id.0)) {
        Err(Error::Unknown { .. }) => return Err(coded(UNKNOWN_PAYLOAD, "Unknown payload")),
        block => block?,
    };
    if cx.chain.spec().is_karst(block.header.timestamp) != karst {
        return Err(coded(UNSUPPORTED_FORK, "Unsupported fork"));
    }
    Ok(json!({
        "executionPayload": ExecutionPayload::of(&block),
        // Whoever builds pays nobody: there is no builder market.
        "blockValue": U256::ZERO,
        "blobsBundle": { "commitments": [], "proofs": [], "blobs": [] },
        "shouldOverrideBuilder": false,
        "parentBeaconBlockRoot": block.header.parent_beacon_block_root,
        "executionRequests": [],
    }))
}

fn fork_choice(cx: &Context, state: State, attributes: Option<Attributes>) -> RpcResult<Value> {
    let attributes = attributes
        .map(TryInto::try_into)
        .transpose()
        .map_err(|e: Error| coded(INVALID_ATTRIBUTES, &e.to_string()))?;
    let wanted = ForkChoice {
        head: state.head_block_hash,
        safe: state.safe_block_hash,
        finalized: state.finalized_block_hash,
    };
    let outcome = match cx.chain.engine().fork_choice_updated(wanted, attributes) {
        Err(Error::InvalidAttributes(reason)) => return Err(coded(INVALID_ATTRIBUTES, &reason)),
        Err(error @ Error::Unknown { .. }) => {
            return Err(coded(INVALID_FORK_CHOICE, &error.to_string()));
        }
        outcome => outcome?,
    };
    let latest = (outcome.status == PayloadStatus::Valid).then_some(wanted.head);
    Ok(json!({
        "payloadStatus": status(&outcome.status, latest),
        "payloadId": outcome.payload.map(|id| B64::from(id.0)),
    }))
}

fn new_payload(cx: &Context, payload: ExecutionPayload, beacon: B256) -> RpcResult<Value> {
    let hash = payload.block_hash;
    let parent = payload.parent_hash;
    let found = match payload.into_block(beacon) {
        Ok(block) => cx.chain.engine().new_payload(Arc::new(block))?,
        Err(Error::InvalidBlock(reason) | Error::InvalidTransaction(reason)) => {
            PayloadStatus::Invalid { reason }
        }
        Err(error) => return Err(error.into()),
    };
    let latest = match &found {
        PayloadStatus::Valid => Some(hash),
        // The parent is valid if it is in the chain.
        PayloadStatus::Invalid { .. } => {
            let known = cx.chain.reader()?.number_of(parent)?;
            known.map(|_| parent)
        }
        PayloadStatus::Syncing | PayloadStatus::Accepted => None,
    };
    Ok(status(&found, latest))
}

/// `PayloadStatusV1`.
fn status(status: &PayloadStatus, latest_valid: Option<B256>) -> Value {
    let (name, reason) = match status {
        PayloadStatus::Valid => ("VALID", None),
        PayloadStatus::Invalid { reason } => ("INVALID", Some(reason)),
        PayloadStatus::Syncing => ("SYNCING", None),
        PayloadStatus::Accepted => ("ACCEPTED", None),
    };
    json!({ "status": name, "latestValidHash": latest_valid, "validationError": reason })
}

fn coded(code: i32, message: &str) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message, None::<()>)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_token_is_good_for_a_minute_and_for_one_secret() {
        let secret = JwtSecret::from_hex(&"1f".repeat(32)).unwrap();
        let token = secret.token(1_000);
        assert!(secret.accepts(&token, 1_000));
        assert!(secret.accepts(&token, 1_060));
        assert!(secret.accepts(&token, 940));
        assert!(!secret.accepts(&token, 1_061));
        assert!(!secret.accepts(&token, 939));
        let other = JwtSecret::from_hex(&format!("0x{}", "20".repeat(32))).unwrap();
        assert!(!other.accepts(&token, 1_000));
        for bad in [
            "",
            ".",
            "..",
            "a.b.c",
            &token[1..],
            &token[..token.len() - 1],
        ] {
            assert!(!secret.accepts(bad, 1_000), "{bad}");
        }
        // The algorithm is not the sender's choice.
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iat":1000}"#);
        assert!(!secret.accepts(&format!("{none}.{claims}."), 1_000));
        assert_eq!(JwtSecret::from_hex("12"), None);
    }
}
