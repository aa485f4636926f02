//! Ethereum JSON-RPC over HTTP and WebSocket: what wallets, `cast`, viem and ethers call.
//!
//! Methods that are not built answer -32601, as the specification asks; nothing answers with a
//! made-up value. Reads run on the blocking pool, because they touch the disk or the EVM; sending a
//! transaction, which takes less than changing threads would, does not.

mod config;
mod convert;
mod debug;
mod engine;
mod error;
mod fees;
mod filters;
mod methods;
mod optimism;
mod subscribe;

pub use engine::{JwtSecret, serve_engine};
pub use optimism::{RollupStatus, reference};

use crate::{
    chain::ChainHandle,
    error::{Error, Result},
};
use filters::Filters;
use jsonrpsee::{
    RpcModule,
    core::traits::IdProvider,
    server::{
        BatchRequestConfig, RandomIntegerIdProvider, ServerBuilder, ServerConfig, ServerHandle,
    },
    types::SubscriptionId,
};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tower_http::cors::{Any, CorsLayer};

/// Limits and access of the server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcConfig {
    /// Open connections.
    pub max_connections: u32,
    /// Bytes of a request.
    pub max_request_bytes: u32,
    /// Bytes of a response.
    pub max_response_bytes: u32,
    /// Calls in a batch.
    pub max_batch: u32,
    /// Subscriptions of a WebSocket connection.
    pub max_subscriptions: u32,
    /// Whether any web page may call (browser wallets and dapps need that on a dev chain).
    pub cors_any_origin: bool,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            max_connections: 512,
            max_request_bytes: 5 << 20,
            max_response_bytes: 64 << 20,
            max_batch: 1_000,
            max_subscriptions: 64,
            cors_any_origin: true,
        }
    }
}

impl RpcConfig {
    fn settings(&self) -> ServerConfig {
        ServerConfig::builder()
            .max_connections(self.max_connections)
            .max_request_body_size(self.max_request_bytes)
            .max_response_body_size(self.max_response_bytes)
            .max_subscriptions_per_connection(self.max_subscriptions)
            .set_batch_request_config(BatchRequestConfig::Limit(self.max_batch))
            .set_id_provider(HexIds)
            .build()
    }
}

/// What methods see.
#[derive(Debug)]
struct Context {
    chain: ChainHandle,
    /// `None` without L1.
    status: Option<Arc<dyn RollupStatus>>,
    filters: Filters,
    /// Dropped after the fields above: whoever waits for it knows that the chain is let go.
    _in_use: mpsc::Sender<Infallible>,
}

impl Context {
    /// What methods see, and a receiver that ends when none of them sees it any more.
    fn new(
        chain: ChainHandle,
        status: Option<Arc<dyn RollupStatus>>,
    ) -> (Self, mpsc::Receiver<Infallible>) {
        let (in_use, released) = mpsc::channel(1);
        let context = Self {
            chain,
            status,
            filters: Filters::default(),
            _in_use: in_use,
        };
        (context, released)
    }
}

/// The methods without a server, for callers in this process.
#[derive(Debug)]
pub struct LocalRpc {
    module: RpcModule<Context>,
    runtime: Runtime,
}

impl LocalRpc {
    /// The methods of [`serve`] on a chain.
    ///
    /// # Errors
    /// When the method table cannot be built, or no thread started.
    pub fn new(chain: ChainHandle) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build();
        Ok(Self {
            // Whoever has the methods knows when they go.
            module: module(Context::new(chain, None).0)?,
            runtime: runtime.map_err(|e| Error::Database(format!("runtime: {e}")))?,
        })
    }

    /// The response to one JSON-RPC request, both as JSON. Subscriptions begin, but nobody hears
    /// from them. Waits, so not for use on an async runtime.
    ///
    /// # Errors
    /// When the request is no JSON-RPC request.
    pub fn answer(&self, request: &str) -> serde_json::Result<String> {
        let answer = self.module.raw_json_request(request, 1);
        let (response, _) = self.runtime.block_on(answer)?;
        Ok(response.get().to_owned())
    }
}

/// A running server. Dropping it stops the server.
#[derive(Debug)]
pub struct RpcServer {
    addr: SocketAddr,
    handle: ServerHandle,
    released: mpsc::Receiver<Infallible>,
}

impl RpcServer {
    /// The address it listens on; tells the port when 0 was asked for.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting and waits until open calls are answered and the chain is let go: a chain
    /// whose last handle this was can be opened again.
    pub async fn stop(mut self) {
        // An error only says that it is stopped already.
        let _ = self.handle.stop();
        self.handle.stopped().await;
        // The server's own tasks outlive `stopped` by a moment, with the chain in their hands.
        self.released.recv().await;
    }
}

/// Serves HTTP and WebSocket on one address.
///
/// # Errors
/// [`Error::Bind`] when the address cannot be listened on.
pub async fn serve(chain: ChainHandle, addr: SocketAddr, config: RpcConfig) -> Result<RpcServer> {
    serve_derived(chain, addr, config, None).await
}

/// As [`serve`], with the methods of a rollup node (`optimism_*`) where `status` knows the L1.
///
/// # Errors
/// [`Error::Bind`] when the address cannot be listened on.
pub async fn serve_derived(
    chain: ChainHandle,
    addr: SocketAddr,
    config: RpcConfig,
    status: Option<Arc<dyn RollupStatus>>,
) -> Result<RpcServer> {
    let bind = |reason: &dyn std::fmt::Display| Error::Bind {
        addr,
        reason: reason.to_string(),
    };
    let cors = config.cors_any_origin.then(|| {
        CorsLayer::new()
            .allow_origin(Any)
            .allow_methods(Any)
            .allow_headers(Any)
    });
    let server = ServerBuilder::with_config(config.settings())
        .set_http_middleware(tower::ServiceBuilder::new().option_layer(cors))
        .build(addr)
        .await
        .map_err(|e| bind(&e))?;
    let addr = server.local_addr().map_err(|e| bind(&e))?;
    let (context, released) = Context::new(chain, status);
    let handle = server.start(module(context)?);
    Ok(RpcServer {
        addr,
        handle,
        released,
    })
}

fn module(context: Context) -> Result<RpcModule<Context>> {
    let mut module = RpcModule::new(context);
    methods::register(&mut module)
        .and_then(|()| fees::register(&mut module))
        .and_then(|()| config::register(&mut module))
        .and_then(|()| filters::register(&mut module))
        .and_then(|()| subscribe::register(&mut module))
        .and_then(|()| debug::register(&mut module))
        .and_then(|()| optimism::register(&mut module))
        .map_err(|e| Error::InvalidTransaction(format!("method table: {e}")))?;
    Ok(module)
}

/// Subscription ids in hex, as clients of geth expect.
#[derive(Debug)]
struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        match RandomIntegerIdProvider.next_id() {
            SubscriptionId::Num(id) => SubscriptionId::Str(format!("0x{id:016x}").into()),
            text @ SubscriptionId::Str(_) => text,
        }
    }
}

type Shared = Arc<Context>;
