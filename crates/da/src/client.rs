//! The side that puts payloads and gets them back.

use std::sync::Arc;
use std::time::Duration;

use openledger_primitives::{B256, Bytes, keccak256};
use serde::Deserialize;

use crate::MAX_PAYLOAD_LEN;
use crate::certificate::{Certificate, CertificateError, Committee, Verifier};
use crate::commitment::{CertificateKind, Commitment};

/// Where payloads go and come from. Calls block; a caller on an async runtime gives them a
/// thread.
pub trait DaClient: Send + Sync {
    /// Stores `payload` and returns what to post to the layer 1 in its place.
    ///
    /// # Errors
    /// [`DaError`], each variant of which names what to do next.
    fn put(&self, payload: &[u8]) -> Result<Commitment, DaError>;

    /// The payload of `commitment`, checked against it as far as that can be done, without a
    /// check of its age.
    ///
    /// # Errors
    /// [`DaError`], each variant of which names what to do next.
    fn get(&self, commitment: &Commitment) -> Result<Bytes, DaError> {
        self.get_included(commitment, None)
    }

    /// As [`get`](Self::get), for a commitment that the layer 1 included in the block
    /// `l1_inclusion`: a certificate that refers to a block too far back is
    /// [invalid](InvalidReason::Stale). This is the call for derivation.
    ///
    /// # Errors
    /// [`DaError`], each variant of which names what to do next.
    fn get_included(
        &self,
        commitment: &Commitment,
        l1_inclusion: Option<u64>,
    ) -> Result<Bytes, DaError>;
}

/// What went wrong, sorted by what to do next.
///
/// Only [`Invalid`](Self::Invalid) lets derivation drop a commitment: it is about the commitment,
/// and every node will say the same of it for ever. All else is about here and now, so derivation
/// **waits and tries again**; if it dropped, two nodes would derive two chains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DaError {
    /// The commitment can never yield a payload. Derivation drops it.
    #[error("invalid commitment ({reason}): {message}")]
    Invalid {
        /// In which way.
        reason: InvalidReason,
        /// For people.
        message: String,
    },
    /// Too many requests. Try again, after the time if there is one.
    #[error("the data availability server is busy")]
    RateLimited {
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The layer is out of service. The batcher posts its data to the layer 1 itself.
    #[error("data availability is out of service, use the layer 1: {message}")]
    FailOver {
        /// For people.
        message: String,
    },
    /// No answer, no usable answer, or no such payload at this time. Try again.
    #[error("data is unavailable for now: {message}")]
    Unavailable {
        /// For people.
        message: String,
    },
    /// The request is at fault (its size, its form, the configuration), and the same request
    /// will fail again. A batcher sends something else; derivation waits for its operator.
    #[error("the data availability server refuses the request: {message}")]
    Rejected {
        /// The status of HTTP, if a server said so.
        status: Option<u16>,
        /// For people.
        message: String,
    },
}

/// Why a commitment is invalid: the status codes of eigenda-proxy's answer 418.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReason {
    /// 1: its certificate cannot be parsed.
    #[error("its certificate cannot be parsed")]
    Unparsable,
    /// 2: the layer 1 included it too long after the block that it refers to.
    #[error("it came to the layer 1 too late")]
    Stale,
    /// 3: its certificate does not prove that anybody has the data.
    #[error("its certificate does not hold")]
    Unproven,
    /// 4: the data is not the encoding of any payload.
    #[error("its data is no encoded payload")]
    Undecodable,
}

impl InvalidReason {
    const ALL: [Self; 4] = [
        Self::Unparsable,
        Self::Stale,
        Self::Unproven,
        Self::Undecodable,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unparsable => 1,
            Self::Stale => 2,
            Self::Unproven => 3,
            Self::Undecodable => 4,
        }
    }

    /// The reason with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// What a [`HttpClient`] asks for when it puts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitmentMode {
    /// A certificate, as the OP Stack spells it: `POST /put`.
    #[default]
    Generic,
    /// A certificate, without the bytes of the OP Stack: `POST /put?commitment_mode=standard`.
    /// The server then also gets commitments in this spelling.
    Standard,
    /// The digest: `POST /put/0x00<keccak256>`.
    Keccak,
}

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the server is, such as `http://127.0.0.1:3100`.
    pub url: String,
    /// What to ask for when putting.
    pub mode: CommitmentMode,
    /// The most bytes of a payload, at most [`MAX_PAYLOAD_LEN`].
    pub max_payload: usize,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long a put may take as a whole. EigenDA answers once operators have signed.
    pub put_timeout: Duration,
    /// How long a get may take as a whole.
    pub get_timeout: Duration,
    /// What to judge certificates of the embedded server by. Without it they are opaque, as
    /// EigenDA's are, and the server's word on them counts.
    pub verifier: Option<Arc<Verifier>>,
}

impl ClientConfig {
    /// The defaults for the server at `url`: certificates, two minutes to put and one to get.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            mode: CommitmentMode::default(),
            max_payload: MAX_PAYLOAD_LEN,
            connect_timeout: Duration::from_secs(5),
            put_timeout: Duration::from_secs(120),
            get_timeout: Duration::from_secs(60),
            verifier: None,
        }
    }
}

/// A client of the REST interface that eigenda-proxy and [`crate::server`] share.
///
/// What it checks by itself, and what it takes on trust:
///
/// - A **digest** is compared with what came back. A server can withhold, never substitute.
/// - A certificate of the **embedded server** is judged here, before anything is asked for, and
///   the payload is compared with it. That needs [`ClientConfig::verifier`].
/// - A certificate of **EigenDA** is opaque here. Whether its operators signed, whether it is in
///   time and whether the payload is the one it names is eigenda-proxy's word: run your own.
///
/// What is judged here is not left to the server: its answer 418 is then no reason to drop a
/// commitment, only to wait. Redirects are not followed and proxies of the environment are not used.
#[derive(Clone, Debug)]
pub struct HttpClient {
    agent: ureq::Agent,
    config: ClientConfig,
}

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Put,
    Get,
}

impl HttpClient {
    /// A client; nothing is sent yet.
    #[must_use]
    pub fn new(mut config: ClientConfig) -> Self {
        let keep = config.url.trim_end_matches('/').len();
        config.url.truncate(keep);
        config.max_payload = config.max_payload.min(MAX_PAYLOAD_LEN);
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_connect(Some(config.connect_timeout))
            .user_agent(concat!("openledger/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { agent, config }
    }

    /// The server's URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.config.url
    }

    /// The committee that the server names as its operators', if it has certificates of its own.
    /// Compare [`Committee::digest`] with one you trust.
    ///
    /// # Errors
    /// As [`DaClient::get`].
    pub fn committee(&self) -> Result<Option<Committee>, DaError> {
        #[derive(Deserialize)]
        struct Config {
            openledger: Option<Ours>,
        }
        #[derive(Deserialize)]
        struct Ours {
            committee: Committee,
        }
        let config: Config = serde_json::from_slice(&self.fetch("/config")?)
            .map_err(|error| unavailable(format!("the answer is no configuration: {error}")))?;
        Ok(config.openledger.map(|ours| ours.committee))
    }

    /// What there is to judge `commitment` by.
    fn judge<'a>(&'a self, commitment: &'a Commitment) -> Judge<'a> {
        match (commitment, &self.config.verifier) {
            (Commitment::Keccak(digest), _) => Judge::Digest(digest),
            (Commitment::Certificate(certified), Some(verifier))
                if certified.kind() == CertificateKind::Development =>
            {
                Judge::Verifier(verifier, certified.bytes())
            }
            (Commitment::Certificate(_), _) => Judge::Server,
        }
    }

    /// Whether `commitment`, fresh from the server, is sound and that of `payload`.
    fn check(&self, commitment: Commitment, payload: &[u8]) -> Result<Commitment, DaError> {
        let wrong = |why| unavailable(format!("the server's commitment does not hold: {why}"));
        let judge = self.judge(&commitment);
        let certificate = judge.open(None).map_err(|why| wrong(why.to_string()))?;
        match judge.compare(certificate.as_ref(), payload) {
            Ok(()) => Ok(commitment),
            Err(Mismatch::Certificate(error)) => Err(wrong(error.to_string())),
            Err(Mismatch::Payload(why)) => Err(wrong(why)),
        }
    }

    fn post(&self, path: &str, payload: &[u8]) -> Result<Vec<u8>, DaError> {
        let answer = self
            .agent
            .post(format!("{}{path}", self.config.url))
            .config()
            .timeout_global(Some(self.config.put_timeout))
            .build()
            .content_type("application/octet-stream")
            .send(payload);
        read(Call::Put, answer, crate::MAX_COMMITMENT_LEN)
    }

    fn fetch(&self, path: &str) -> Result<Vec<u8>, DaError> {
        let answer = self
            .agent
            .get(format!("{}{path}", self.config.url))
            .config()
            .timeout_global(Some(self.config.get_timeout))
            .build()
            .call();
        read(Call::Get, answer, MAX_PAYLOAD_LEN)
    }
}

impl DaClient for HttpClient {
    fn put(&self, payload: &[u8]) -> Result<Commitment, DaError> {
        let (length, most) = (payload.len(), self.config.max_payload);
        if payload.is_empty() || length > most {
            let message = format!("a payload has 1 to {most} bytes, not {length}");
            return Err(DaError::Rejected {
                status: None,
                message,
            });
        }
        let unusable = |error| unavailable(format!("the answer is no commitment: {error}"));
        match self.config.mode {
            CommitmentMode::Keccak => {
                let commitment = Commitment::keccak(payload);
                self.post(&format!("/put/{commitment}"), payload)?;
                Ok(commitment)
            }
            CommitmentMode::Standard => {
                let answer = self.post("/put?commitment_mode=standard", payload)?;
                self.check(
                    Commitment::decode_standard(&answer).map_err(unusable)?,
                    payload,
                )
            }
            CommitmentMode::Generic => {
                let answer = self.post("/put", payload)?;
                self.check(Commitment::decode(&answer).map_err(unusable)?, payload)
            }
        }
    }

    fn get_included(
        &self,
        commitment: &Commitment,
        l1_inclusion: Option<u64>,
    ) -> Result<Bytes, DaError> {
        let judge = self.judge(commitment);
        let certificate = judge.open(l1_inclusion).map_err(|error| DaError::Invalid {
            reason: error.reason(),
            message: error.to_string(),
        })?;
        let mut query = Vec::new();
        let mut spelling = commitment.to_string();
        if self.config.mode == CommitmentMode::Standard
            && let Some(standard) = commitment.encode_standard()
        {
            spelling = standard.to_string();
            query.push("commitment_mode=standard".to_owned());
        }
        if let Some(block) = l1_inclusion {
            query.push(format!("l1_inclusion_block_number={block}"));
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let path = format!("/get/{spelling}{mark}{}", query.join("&"));
        let payload = self.fetch(&path).map_err(|error| match error {
            DaError::Invalid { reason, message } if !matches!(judge, Judge::Server) => unavailable(
                format!("the server calls a sound commitment invalid ({reason}): {message}"),
            ),
            error => error,
        })?;
        match judge.compare(certificate.as_ref(), &payload) {
            Ok(()) => Ok(payload.into()),
            Err(Mismatch::Certificate(error)) => Err(DaError::Invalid {
                reason: error.reason(),
                message: error.to_string(),
            }),
            Err(Mismatch::Payload(why)) => Err(unavailable(format!(
                "the server has another payload: {why}"
            ))),
        }
    }
}

/// Why commitment and payload do not belong together.
enum Mismatch {
    /// The server gave something else; another answer may be right.
    Payload(String),
    /// The commitment is wrong about its own payload, and stays so.
    Certificate(CertificateError),
}

/// Who says whether a commitment is sound, and what its payload is.
enum Judge<'a> {
    /// The payload's digest.
    Digest(&'a B256),
    /// We, by the certificate.
    Verifier(&'a Verifier, &'a [u8]),
    /// The server.
    Server,
}

impl Judge<'_> {
    /// The certificate, if it can be judged here and is sound.
    fn open(&self, l1_inclusion: Option<u64>) -> Result<Option<Certificate>, CertificateError> {
        match self {
            Self::Digest(_) | Self::Server => Ok(None),
            Self::Verifier(verifier, bytes) => verifier.verify(bytes, l1_inclusion).map(Some),
        }
    }

    /// Compares `payload` with what is known of it.
    fn compare(&self, certificate: Option<&Certificate>, payload: &[u8]) -> Result<(), Mismatch> {
        match (self, certificate) {
            (Self::Digest(digest), _) => {
                let found = keccak256(payload);
                if found == **digest {
                    Ok(())
                } else {
                    let why = format!("its digest is {found}, not {digest}");
                    Err(Mismatch::Payload(why))
                }
            }
            (Self::Verifier(verifier, _), Some(certificate)) => {
                let judged = verifier.verify_payload(certificate, payload);
                judged.map_err(|error| match error {
                    CertificateError::Contradiction { .. } => Mismatch::Certificate(error),
                    error => Mismatch::Payload(error.to_string()),
                })
            }
            (Self::Verifier(..), None) | (Self::Server, _) => Ok(()),
        }
    }
}

fn unavailable(message: String) -> DaError {
    DaError::Unavailable { message }
}

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// The body of a good answer within `limit`, or what the answer means.
fn read(call: Call, answer: Answer, limit: usize) -> Result<Vec<u8>, DaError> {
    let mut answer = answer.map_err(|error| match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            DaError::Rejected {
                status: None,
                message: error.to_string(),
            }
        }
        error => unavailable(error.to_string()),
    })?;
    let status = answer.status().as_u16();
    if status != 200 {
        let retry_after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            // A day is longer than anybody waits without asking again.
            .map(|seconds: u64| Duration::from_secs(seconds.min(86_400)));
        let body = answer.body_mut().with_config().limit(MESSAGE_LEN);
        let body = body.read_to_vec().unwrap_or_default();
        return Err(sort(call, status, retry_after, &body));
    }
    // ureq calls it an error already when a body has exactly as many bytes as the limit.
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let body = answer.body_mut().with_config().limit(limit).read_to_vec();
    body.map_err(|error| unavailable(format!("the answer cannot be read: {error}")))
}

/// The most bytes of an error's body that are read.
const MESSAGE_LEN: u64 = 4096;

/// The meaning of an answer that is not 200, following eigenda-proxy.
fn sort(call: Call, status: u16, retry_after: Option<Duration>, body: &[u8]) -> DaError {
    let text = String::from_utf8_lossy(body);
    let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    let message = format!("status {status}: {text}");
    match (call, status) {
        (Call::Get, 418) => match Teapot::read(body) {
            Some((reason, message)) => DaError::Invalid { reason, message },
            // Dropping is for ever, so it takes a reason that we know.
            None => unavailable(message),
        },
        (_, 429) => DaError::RateLimited { retry_after },
        (Call::Put, 503) => DaError::FailOver { message },
        (_, 408 | 500..) | (Call::Get, 404) => unavailable(message),
        _ => DaError::Rejected {
            status: Some(status),
            message,
        },
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Teapot {
    status_code: u8,
    #[serde(default)]
    msg: String,
}

impl Teapot {
    fn read(body: &[u8]) -> Option<(InvalidReason, String)> {
        let teapot: Self = serde_json::from_slice(body).ok()?;
        Some((InvalidReason::from_code(teapot.status_code)?, teapot.msg))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(call: Call, status: u16, body: &str) -> DaError {
        sort(call, status, None, body.as_bytes())
    }

    #[test]
    fn only_a_known_reason_drops_a_commitment() {
        for code in 1..=4 {
            let body = format!(r#"{{"StatusCode":{code},"Msg":"why"}}"#);
            let error = of(Call::Get, 418, &body);
            let DaError::Invalid { reason, message } = error else {
                panic!("{error}");
            };
            assert_eq!((reason.code(), message.as_str()), (code, "why"));
        }
        let unknown = [
            "",
            "tea",
            "{}",
            r#"{"StatusCode":0}"#,
            r#"{"StatusCode":5}"#,
        ];
        for body in unknown {
            assert!(
                matches!(of(Call::Get, 418, body), DaError::Unavailable { .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn every_status_says_what_to_do_next() {
        use Call::{Get, Put};
        for status in [500, 502, 504, 599, 408] {
            for call in [Put, Get] {
                assert!(matches!(of(call, status, ""), DaError::Unavailable { .. }));
            }
        }
        assert!(matches!(of(Put, 503, ""), DaError::FailOver { .. }));
        assert!(matches!(of(Get, 503, ""), DaError::Unavailable { .. }));
        assert!(matches!(of(Get, 404, ""), DaError::Unavailable { .. }));
        for (call, status) in [(Put, 404), (Put, 413), (Get, 400), (Put, 418), (Get, 301)] {
            let error = of(call, status, "\u{1b}[31mno\n");
            let expected = DaError::Rejected {
                status: Some(status),
                message: format!("status {status}: [31mno"),
            };
            assert_eq!(error, expected);
        }
    }
}
