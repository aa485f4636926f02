//! Deploying the contracts: same inputs, same addresses, and safe to run again at any point.

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::{SolCall, SolConstructor};
use openledger_primitives::Wei;
use openledger_primitives::records::Parameters;

use crate::bindings::{
    AccessManager, CommonsVault, ContributionAnchor, DatanetRegistry, InferenceSettlement,
    ModelRegistry, ProtocolParameters, convert,
};
use crate::node::Call;
use crate::{Deployment, Error, Role, Sender};

/// What the contracts are born with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The parameters of the first epoch.
    pub parameters: Parameters,
    /// Lowest value that governance can ever give each field.
    pub min: Parameters,
    /// Highest value that governance can ever give each field.
    pub max: Parameters,
    /// Where registration fees go.
    pub treasury: Address,
    /// Administrator of all roles; the deployer gives its own rights up to it.
    pub administrator: Address,
    /// Who holds each role besides.
    pub roles: Vec<(Role, Address)>,
    /// Bond that a settler needs to post.
    pub settler_bond: Wei,
    /// Bond of a demand to see a voucher.
    pub demand_bond: Wei,
    /// Seconds that an exiting payer leaves the settler for posting the last debits. Should be
    /// longer than an epoch.
    pub exit_delay: u64,
    /// Unix seconds after which the guardian can do nothing.
    pub guardian_sunset: u64,
}

impl Genesis {
    /// The dev network's genesis: the default parameters with wide bounds, one settler, one
    /// guardian, the administrator as governor, small bonds and a guardian until 2100.
    pub fn dev(
        administrator: Address,
        treasury: Address,
        settlers: &[Address],
        guardian: Address,
    ) -> Self {
        let parameters = Parameters::default();
        let mut roles: Vec<_> = settlers.iter().map(|s| (Role::Settler, *s)).collect();
        roles.extend([
            (Role::Guardian, guardian),
            (Role::Governor, administrator),
            (Role::Commons, administrator),
        ]);
        Self {
            min: Parameters {
                contributorsBps: 2_000,
                operatorBps: 0,
                modelOwnerBps: 0,
                stakersBps: 0,
                treasuryBps: 0,
                spanBps: 0,
                minSpanTokens: 1,
                minSpanMillibits: 0,
                noiseQuantileBps: 5_000,
                lambda: 0,
                dustFloor: 0,
                challengeWindow: 1,
                contributionBond: 0,
                registrationFee: 0,
                datanetFee: 0,
            },
            max: Parameters {
                contributorsBps: 10_000,
                operatorBps: 5_000,
                modelOwnerBps: 5_000,
                stakersBps: 2_000,
                treasuryBps: 2_000,
                spanBps: 10_000,
                minSpanTokens: 64,
                minSpanMillibits: 1_000_000,
                noiseQuantileBps: 10_000,
                lambda: 1 << 30,
                dustFloor: Wei::OPEN.get(),
                challengeWindow: 30 * 24 * 3_600,
                contributionBond: 1_000 * Wei::OPEN.get(),
                registrationFee: 1_000_000 * Wei::OPEN.get(),
                datanetFee: 1_000_000 * Wei::OPEN.get(),
            },
            parameters,
            treasury,
            administrator,
            roles,
            settler_bond: Wei::OPEN,
            demand_bond: Wei::new(Wei::OPEN.get() / 100),
            exit_delay: 10,
            guardian_sunset: 4_102_444_800,
        }
    }
}

/// Creates the contracts from `deployer`, whose first transaction for them has nonce `first_nonce`,
/// and hands out the roles. Contracts that exist at their expected address are left alone, so a
/// run that was interrupted anywhere is completed by running it again.
///
/// `deployer` must do nothing else until this succeeded once.
///
/// # Errors
/// [`Error::DeployerNonce`] if another transaction took a contract's nonce, else as
/// [`Sender::send`].
pub async fn deploy(
    sender: &Sender,
    deployer: Address,
    first_nonce: u64,
    genesis: &Genesis,
) -> Result<Deployment, Error> {
    let deployment = Deployment::expected(sender.chain_id(), deployer, first_nonce);
    let codes = creation_codes(&deployment, deployer, genesis);
    let contracts = deployment.contracts().into_iter().zip(codes);
    let creations = contracts.map(|((name, address), code)| (name, address, code));
    create(sender, deployer, first_nonce, creations).await?;
    hand_out_roles(sender, deployer, &deployment, genesis).await?;
    Ok(deployment)
}

/// Creates contracts, each a name, its expected address and its creation code, in transactions
/// from `first_nonce` on. Those that exist are left alone.
pub(crate) async fn create(
    sender: &Sender,
    deployer: Address,
    first_nonce: u64,
    creations: impl IntoIterator<Item = (&'static str, Address, Bytes)>,
) -> Result<(), Error> {
    let node = sender.node();
    for (expected, (contract, address, code)) in (first_nonce..).zip(creations) {
        if !node.code(address).await?.is_empty() {
            continue;
        }
        let nonce = node.nonce(deployer, true).await?;
        // A creation that is still in the mempool has used its nonce; it is mined by waiting for
        // the same transaction, which the outbox remembers.
        if nonce != expected && nonce != expected.saturating_add(1) {
            return Err(Error::DeployerNonce {
                deployer,
                nonce,
                contract,
                expected,
            });
        }
        let call = Call {
            data: code,
            ..Call::default()
        };
        let key = format!("deploy/{}/{address}", sender.chain_id());
        let receipt = sender.send_once(&key, deployer, &call).await?;
        if receipt.created != Some(address) {
            return Err(Error::DeployerNonce {
                deployer,
                nonce,
                contract,
                expected,
            });
        }
        tracing::info!(contract, %address, gas = receipt.gas_used, "contract created");
    }
    Ok(())
}

/// Creation code: the compiled contract and its constructor's arguments.
pub(crate) fn code(bytecode: &Bytes, arguments: &impl SolConstructor) -> Bytes {
    [bytecode.as_ref(), &arguments.abi_encode()].concat().into()
}

/// Creation code with constructor arguments, in the order of [`Deployment::contracts`].
fn creation_codes(at: &Deployment, deployer: Address, genesis: &Genesis) -> [Bytes; 6] {
    [
        code(
            &AccessManager::BYTECODE,
            &AccessManager::constructorCall {
                initialAdmin: deployer,
            },
        ),
        code(
            &ProtocolParameters::BYTECODE,
            &ProtocolParameters::constructorCall {
                authority: at.access_manager,
                clock_: at.settlement,
                treasury_: genesis.treasury,
                genesis: convert(&genesis.parameters),
                min: convert(&genesis.min),
                max: convert(&genesis.max),
            },
        ),
        code(
            &InferenceSettlement::BYTECODE,
            &InferenceSettlement::constructorCall {
                authority: at.access_manager,
                parameters_: at.parameters,
                settlerBond_: genesis.settler_bond.get(),
                demandBond_: genesis.demand_bond.get(),
                exitDelay_: genesis.exit_delay,
                guardianSunset_: genesis.guardian_sunset,
            },
        ),
        code(
            &DatanetRegistry::BYTECODE,
            &DatanetRegistry::constructorCall {
                authority: at.access_manager,
                parameters_: at.parameters,
            },
        ),
        code(
            &ContributionAnchor::BYTECODE,
            &ContributionAnchor::constructorCall {
                parameters_: at.parameters,
                datanets_: at.datanets,
            },
        ),
        code(
            &ModelRegistry::BYTECODE,
            &ModelRegistry::constructorCall {
                parameters_: at.parameters,
                datanets_: at.datanets,
            },
        ),
    ]
}

/// What each role may call.
fn permissions(at: &Deployment) -> Vec<(Address, [u8; 4], Role)> {
    vec![
        (
            at.settlement,
            InferenceSettlement::postCall::SELECTOR,
            Role::Settler,
        ),
        (
            at.settlement,
            InferenceSettlement::disableCall::SELECTOR,
            Role::Guardian,
        ),
        (
            at.datanets,
            DatanetRegistry::setPausedCall::SELECTOR,
            Role::Guardian,
        ),
        (
            at.parameters,
            ProtocolParameters::setCall::SELECTOR,
            Role::Governor,
        ),
        // The vaults look the role up for the registry that made them.
        (
            at.datanets,
            CommonsVault::releaseCall::SELECTOR,
            Role::Commons,
        ),
    ]
}

async fn has_role(
    sender: &Sender,
    at: &Deployment,
    role: u64,
    account: Address,
) -> Result<bool, Error> {
    let call = AccessManager::hasRoleCall {
        roleId: role,
        account,
    };
    let answer = sender
        .node()
        .call(None, &Call::new(at.access_manager, call.abi_encode()))
        .await?;
    AccessManager::hasRoleCall::abi_decode_returns(&answer)
        .map(|has| has.isMember)
        .map_err(|e| Error::Answer {
            contract: "AccessManager",
            function: "hasRole",
            reason: e.to_string(),
        })
}

/// One transaction with all settings; skipped when they are in place.
async fn hand_out_roles(
    sender: &Sender,
    deployer: Address,
    at: &Deployment,
    genesis: &Genesis,
) -> Result<(), Error> {
    let keep = genesis.administrator == deployer;
    let mut grants: Vec<(u64, Address)> = genesis
        .roles
        .iter()
        .map(|(role, account)| (role.id(), *account))
        .collect();
    if !keep {
        grants.push((0, genesis.administrator));
    }
    // The grants are the last settings of one transaction, so having them means having all.
    let mut missing = false;
    for (role, account) in &grants {
        missing |= !has_role(sender, at, *role, *account).await?;
    }
    if !missing {
        return Ok(());
    }

    let mut steps: Vec<Bytes> = Vec::new();
    for (target, selector, role) in permissions(at) {
        steps.push(
            AccessManager::setTargetFunctionRoleCall {
                target,
                selectors: vec![selector.into()],
                roleId: role.id(),
            }
            .abi_encode()
            .into(),
        );
    }
    for role in Role::ALL {
        let label = AccessManager::labelRoleCall {
            roleId: role.id(),
            label: role.label().into(),
        };
        steps.push(label.abi_encode().into());
    }
    for (role, account) in grants {
        let grant = AccessManager::grantRoleCall {
            roleId: role,
            account,
            executionDelay: 0,
        };
        steps.push(grant.abi_encode().into());
    }
    if !keep {
        let leave = AccessManager::renounceRoleCall {
            roleId: 0,
            callerConfirmation: deployer,
        };
        steps.push(leave.abi_encode().into());
    }
    let call = Call::new(
        at.access_manager,
        AccessManager::multicallCall { data: steps }.abi_encode(),
    );
    let key = format!("deploy/{}/{}/roles", at.chain_id, at.access_manager);
    sender.send_once(&key, deployer, &call).await?;
    Ok(())
}
