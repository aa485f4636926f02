//! A chain with JSON-RPC and one funded wallet: `cargo run -p openledger-rollup --example devnet --
//! 0xADDRESS [DIR]`, then `cast block latest --rpc-url http://127.0.0.1:8545`.
#![allow(clippy::print_stdout, reason = "an example talks to its terminal")]

use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, U256};
use openledger_rollup::{Chain, ChainConfig, RpcConfig, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let wallet: Address = args.next().ok_or("usage: devnet ADDRESS [DIR]")?.parse()?;
    let mut genesis = Genesis {
        gas_limit: 60_000_000,
        ..Default::default()
    };
    genesis.config.chain_id = 4_242;
    let coins = U256::from(1_000_000_000_000_000_000_000_000u128);
    genesis
        .alloc
        .insert(wallet, GenesisAccount::default().with_balance(coins));

    let chain = Chain::open(ChainConfig::new(args.next().map(Into::into), genesis))?;
    let server = serve(
        chain.handle(),
        "127.0.0.1:8545".parse()?,
        RpcConfig::default(),
    )
    .await?;
    println!("http://{}", server.addr());
    let mut blocks = chain.handle().subscribe();
    while let Ok(event) = blocks.recv().await {
        println!(
            "{:?}",
            chain.handle().head().map(|head| (head.number, head.hash()))
        );
        drop(event);
    }
    Ok(())
}
