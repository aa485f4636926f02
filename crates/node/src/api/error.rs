//! Errors in the shape that `openai` clients know: `{"error":{message,type,param,code}}`.

use axum::Json;
use axum::extract::FromRequest;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// Error type as `openai` clients know it: `invalid_request_error`, `insufficient_funds`, ...
    pub kind: &'static str,
    /// The request's field, if one is to blame.
    pub param: Option<String>,
    /// Machine-readable code.
    pub code: &'static str,
}

impl ApiError {
    /// 400: a field has a value that cannot be used.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            kind: "invalid_request_error",
            param: Some(param.to_owned()),
            code: "invalid_value",
        }
    }

    /// 404: there is no such thing.
    pub fn not_found(what: &'static str, id: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: format!("there is no {what} {id:?}"),
            kind: "invalid_request_error",
            param: None,
            code: "not_found",
        }
    }

    /// The JSON body, also used for errors inside a stream.
    pub fn body(&self) -> serde_json::Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }
}

impl From<crate::Error> for ApiError {
    fn from(error: crate::Error) -> Self {
        let (status, kind, code) = match &error {
            crate::Error::UnknownModel { .. } => (
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                "model_not_found",
            ),
            crate::Error::NotFound { .. } => {
                (StatusCode::NOT_FOUND, "invalid_request_error", "not_found")
            }
            crate::Error::Invalid { .. } => (
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                "invalid_value",
            ),
            crate::Error::ContextLength { .. } => (
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                "context_length_exceeded",
            ),
            crate::Error::Unauthorized(_) => (
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "invalid_api_key",
            ),
            crate::Error::BadVoucher { code, .. } => {
                (StatusCode::BAD_REQUEST, "invalid_voucher", *code)
            }
            crate::Error::PaymentRequired { .. } => (
                StatusCode::PAYMENT_REQUIRED,
                "insufficient_funds",
                "insufficient_funds",
            ),
            crate::Error::Busy => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "queue_full",
            ),
            crate::Error::Conflict(_) => {
                (StatusCode::CONFLICT, "invalid_request_error", "conflict")
            }
            _ => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "internal_error",
            ),
        };
        if status.is_server_error() {
            tracing::error!(%error, "request failed");
        }
        let param = match &error {
            crate::Error::UnknownModel { .. } => Some("model".to_owned()),
            crate::Error::Invalid { field, .. } => Some(field.clone()),
            crate::Error::ContextLength { .. } => Some("messages".to_owned()),
            _ => None,
        };
        Self {
            status,
            message: error.to_string(),
            kind,
            param,
            code,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        match self.status {
            // The SDK must not hammer a wallet that is empty.
            StatusCode::PAYMENT_REQUIRED | StatusCode::CONFLICT => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert("retry-after", HeaderValue::from_static("1"));
            }
            _ => {}
        }
        (self.status, headers, Json(self.body())).into_response()
    }
}

/// A JSON body whose errors have the API's shape.
#[derive(Clone, Copy, Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(
        request: axum::extract::Request,
        state: &S,
    ) -> Result<Self, Self::Rejection> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                let code = match rejection {
                    JsonRejection::BytesRejection(_) => "request_too_large",
                    _ => "invalid_json",
                };
                Err(ApiError {
                    status: match rejection.status() {
                        // axum answers 422 for a wrong type; OpenAI clients expect 400.
                        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                        other => other,
                    },
                    message: rejection.body_text(),
                    kind: "invalid_request_error",
                    param: None,
                    code,
                })
            }
        }
    }
}
