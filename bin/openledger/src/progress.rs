//! Progress bars drawn from the node's own notices.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use openledger_node::{Node, view::StageView};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// Draws the loop's stages on stderr until it is dropped: bars on a terminal, a line a stage
/// elsewhere.
#[derive(Debug)]
pub(crate) struct Bars {
    task: JoinHandle<()>,
}

impl Bars {
    /// Follows `node`.
    pub(crate) fn follow(node: &Node) -> Self {
        let mut live = node.notices().follow();
        let task = tokio::spawn(async move {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let mut stage = String::new();
            let mut bar: Option<ProgressBar> = None;
            loop {
                let notice = match live.recv().await {
                    Ok(notice) if notice.topic == "stage" => notice,
                    Ok(_) | Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => break,
                };
                let Ok(view) = serde_json::from_value::<StageView>(notice.json) else {
                    continue;
                };
                if view.name != stage {
                    if let Some(done) = bar.take() {
                        done.finish();
                    }
                    stage.clone_from(&view.name);
                    if terminal {
                        bar = Some(new_bar(&view.name));
                    } else {
                        eprintln!("{:>12}  {}", view.name, view.message);
                    }
                }
                if let Some(bar) = &bar {
                    bar.set_length(view.total.max(1));
                    bar.set_position(view.done.min(view.total.max(1)));
                    bar.set_message(view.message);
                }
            }
            if let Some(bar) = bar {
                bar.finish();
            }
        });
        Self { task }
    }
}

/// Turns while something without steps is done; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    /// Shows `message` after `name`, like the bars that follow it.
    pub(crate) fn start(name: &str, message: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix:>12.bold} {spinner} {elapsed:>4} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style);
        bar.set_prefix(name.to_owned());
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A bar over `count` blocks.
pub(crate) fn blocks(count: u64) -> ProgressBar {
    let bar = new_bar("blocks");
    bar.set_length(count);
    bar
}

fn new_bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{prefix:>12.bold} [{bar:28}] {elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
    bar.set_style(style);
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar over the blocks of the layer 1 up to `target`.
pub(crate) fn layer1(target: u64) -> ProgressBar {
    let bar = new_bar("layer 1");
    bar.set_length(target.max(1));
    bar
}
