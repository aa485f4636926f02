//! Tables, and in them what the loop came to.

use anyhow::Result;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use openledger_node::summary::Summary;
use openledger_node::{Node, parts_sum_to_fees};
use openledger_primitives::Wei;

/// Earners shown.
const EARNERS: usize = 15;
/// Rows of evidence shown.
const EVIDENCE: usize = 6;

/// Prints who earned what from which rows, and the line that in = out.
pub(crate) fn print(node: &Node, summary: &Summary) -> Result<()> {
    let settled = &summary.settlement;
    println!();
    println!(
        "{} rows accepted, {} refused{}; {} contributors.",
        summary.contributions.accepted,
        summary.contributions.rejected,
        reasons(summary),
        summary.contributors,
    );
    println!(
        "{} tuned on {} in {} steps: loss {:.2} -> {:.2}, held out {:.2} -> {:.2} nats a token.",
        summary.adapter.id,
        summary.adapter.base,
        summary.adapter.steps,
        summary.adapter.loss_first,
        summary.adapter.loss_last,
        summary.adapter.eval_before,
        summary.adapter.eval_after,
    );
    println!(
        "{} questions answered; {} paid spans, {} row scores, {} clusters paid.",
        summary.inferences,
        summary.attribution.spans,
        summary.attribution.rows_scored,
        summary.attribution.clusters_paid,
    );
    println!();

    let mut table = new(&["earner", "role", "earned OPEN", "claimed OPEN", "for rows"]);
    let page = node.earners(0, EARNERS)?;
    for earner in &page.items {
        let name = earner
            .name
            .clone()
            .unwrap_or_else(|| format!("{}", earner.address));
        let rows: Vec<String> = earner.rows.iter().map(|row| format!("#{row}")).collect();
        table.add_row(vec![
            name,
            earner.role.clone(),
            open(earner.earned),
            open(earner.claimed),
            rows.join(" "),
        ]);
    }
    right_align(&mut table, &[2, 3]);
    println!("{table}");
    if page.total > page.items.len() {
        println!(
            "... and {} more: {}/wallets",
            page.total - page.items.len(),
            node.http_url()
        );
    }
    evidence(node)?;

    let paid = &settled.paid_wei;
    println!();
    println!(
        "Epoch {}: fees in {} OPEN",
        settled.epoch,
        open(settled.fees_wei)
    );
    for (name, amount) in [
        ("contributors", paid.contributors),
        ("operator", paid.operator),
        ("model owner", paid.model_owner),
        ("stakers", paid.stakers),
        ("treasury", paid.treasury),
        ("commons (not attributed)", paid.commons),
    ] {
        println!("  {name:<25} {:>24}", open(amount));
    }
    let equal = if parts_sum_to_fees(summary) {
        "="
    } else {
        "!="
    };
    let chain = if settled.conserved {
        "balances"
    } else {
        "DOES NOT BALANCE"
    };
    println!(
        "in {equal} out; {} claims paid; the ledger recomputed from the chain alone {chain}:",
        settled.claims
    );
    println!("  openledger settlement audit --rpc {}", summary.urls.rpc);
    Ok(())
}

fn reasons(summary: &Summary) -> String {
    let mut reasons: Vec<_> = summary.contributions.by_reason.iter().collect();
    if reasons.is_empty() {
        return String::new();
    }
    reasons.sort_by(|a, b| b.1.cmp(a.1));
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    format!(" ({})", reasons.join(", "))
}

/// The best paid spans: which row, for which answer.
fn evidence(node: &Node) -> Result<()> {
    let mut best = Vec::new();
    for completion in node.completions(200)? {
        let Some(view) = node.attribution(&completion.id)? else {
            continue;
        };
        for span in view.spans.iter().filter(|span| span.admissible) {
            let Some(source) = span.sources.first() else {
                continue;
            };
            best.push((
                span.surprisal_millibits,
                span.text.clone(),
                source.clone(),
                view.id.clone(),
            ));
        }
    }
    best.sort_by_key(|(bits, ..)| std::cmp::Reverse(*bits));
    if best.is_empty() {
        return Ok(());
    }
    println!();
    let mut table = new(&["words of an answer", "stand in row", "of", "answer"]);
    for (_, text, source, id) in best.into_iter().take(EVIDENCE) {
        let mut text: String = text.replace('\n', " ").chars().take(60).collect();
        if text.chars().count() == 60 {
            text.push('…');
        }
        table.add_row(vec![
            text,
            format!("#{}", source.row),
            source.contributor,
            id,
        ]);
    }
    println!("{table}");
    Ok(())
}

/// An empty table in the style of all tables.
pub(crate) fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(header.iter().copied());
    table
}

/// Numbers read better flush right.
pub(crate) fn right_align(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// OPEN with enough digits to tell small earnings apart; the exact wei are in `--json`.
fn open(amount: Wei) -> String {
    let exact = amount.open();
    match exact.split_once('.') {
        Some((whole, decimals)) if decimals.len() > 9 => format!("{whole}.{}", &decimals[..9]),
        _ => exact,
    }
}
