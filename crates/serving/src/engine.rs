//! The engine: one thread that owns the model's step and runs all answers together.
//!
//! Every turn of its loop is one batched step: each running answer contributes its newest token,
//! answers still reading their prompt contribute a chunk of it, up to a budget of tokens, so a long
//! prompt delays nobody for long. Lanes come and go between steps. Which lanes share a step changes
//! no bit of any answer (the model's `step` has that property), so batching is a matter of speed
//! only, and an answer can be recomputed alone by anybody who doubts its receipt.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use openledger_model::template::{ChatTemplate, Role};
use openledger_model::{Base, Config, Lane, Tokenizer, Workspace, step};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Receiver};

use crate::Error;
use crate::lane::{Active, Job, Progress};
use crate::queue::FairQueue;
use crate::registry::{AdapterStats, Adapters};
use crate::request::{Event, MAX_CHOICES, MAX_TOP_LOGPROBS, Prompt, Request};

/// Bounds of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Answers computed at once.
    pub lanes: usize,
    /// Answers that may wait; beyond, requests are refused as busy.
    pub queue: usize,
    /// Tokens a step may process, over all lanes.
    pub step_tokens: usize,
    /// Bytes of keys and values that all lanes may hold.
    pub cache_bytes: u64,
    /// Bytes of adapter weights in memory; less used ones are read back from disk when needed.
    pub adapter_bytes: usize,
    /// Answer tokens where a request names no limit.
    pub default_max_tokens: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            lanes: 16,
            queue: 256,
            step_tokens: 256,
            cache_bytes: 512 << 20,
            adapter_bytes: 512 << 20,
            default_max_tokens: 256,
        }
    }
}

/// A snapshot for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineStats {
    /// Answers waiting.
    pub queued: usize,
    /// Answers being computed.
    pub running: usize,
    /// Bytes of keys and values set aside for them.
    pub cache_bytes: u64,
    /// Steps since the start.
    pub steps: u64,
    /// Tokens processed since the start, prompts included.
    pub tokens: u64,
    /// Answers that ended since the start, cancelled ones included.
    pub finished: u64,
    /// The adapters.
    pub adapters: AdapterStats,
}

/// The answers to one request as they come. Dropping it cancels the request.
#[derive(Debug)]
pub struct Answers {
    /// Prompt tokens of each answer, begin-of-text included.
    pub prompt_tokens: usize,
    /// Most answer tokens of each answer: what the highest possible fee is computed from.
    pub max_tokens: usize,
    /// The events; ends after the last answer's `Done` or a `Failed`.
    pub events: Receiver<Event>,
}

#[derive(Debug)]
struct State {
    queue: FairQueue<Job>,
    stats: EngineStats,
    stopping: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running engine. Dropping it stops the thread; waiting and running answers fail as stopped.
#[derive(Debug)]
pub struct Engine {
    base: Arc<Base>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    config: EngineConfig,
    adapters: Arc<Adapters>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Bytes of keys and values of one token.
fn cache_bytes_per_token(config: &Config) -> u64 {
    (2 * config.layers * config.kv_heads * config.head_dim * size_of::<f32>()) as u64
}

impl Engine {
    /// Starts serving `base`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a bound of zero, [`Error::Model`] if the tokenizer has more tokens
    /// than the model.
    pub fn start(
        base: Arc<Base>,
        tokenizer: Tokenizer,
        template: impl Into<ChatTemplate>,
        config: EngineConfig,
    ) -> Result<Self, Error> {
        tokenizer.check_model(&base.config)?;
        for (parameter, value) in [
            ("lanes", config.lanes),
            ("queue", config.queue),
            ("step_tokens", config.step_tokens),
        ] {
            if value == 0 {
                return Err(Error::parameter(parameter, 0, "must be 1 or more"));
            }
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: FairQueue::new(config.queue),
                stats: EngineStats::default(),
                stopping: false,
            }),
            wake: Condvar::new(),
        });
        let worker = Worker {
            base: Arc::clone(&base),
            tokenizer: tokenizer.clone(),
            config: config.clone(),
            shared: Arc::clone(&shared),
            lanes: Vec::new(),
            cache_bytes: 0,
        };
        let thread = std::thread::Builder::new()
            .name("openlora-engine".into())
            .spawn(move || worker.run())
            .map_err(|_| Error::Stopped)?;
        Ok(Self {
            adapters: Arc::new(Adapters::new(base.config.clone(), config.adapter_bytes)),
            base,
            tokenizer,
            template: template.into(),
            config,
            shared,
            thread: Some(thread),
        })
    }

    /// The adapters served.
    pub fn adapters(&self) -> &Arc<Adapters> {
        &self.adapters
    }

    /// The base model.
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The template of conversations.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> EngineStats {
        let mut stats = self.shared.state().stats;
        stats.queued = self.shared.state().queue.len();
        stats.adapters = self.adapters.stats();
        stats
    }

    /// The prompt's tokens as they would be served.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a conversation that the model's chat template refuses.
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, Error> {
        let config = &self.base.config;
        match prompt {
            Prompt::Tokens(tokens) => Ok(tokens.clone()),
            Prompt::Text(text) => {
                let mut tokens: Vec<u32> = config.bos.into_iter().collect();
                tokens.extend(self.tokenizer.encode(text));
                Ok(tokens)
            }
            Prompt::Chat(turns) => {
                let turns: Vec<(Role, &str)> = turns
                    .iter()
                    .map(|(role, content)| (*role, content.as_str()))
                    .collect();
                let tokens = self.template.prompt(&self.tokenizer, config, &turns);
                tokens.map_err(|error| match error {
                    openledger_model::Error::ChatTemplate { message, .. } => {
                        let given = format!("{} turns", turns.len());
                        let expected = format!("the model's chat template {message}");
                        Error::parameter("messages", given, expected)
                    }
                    other => other.into(),
                })
            }
        }
    }

    /// Prompt tokens and most answer tokens of `request`, checked: what its highest fee is
    /// computed from, before anything is queued.
    ///
    /// # Errors
    /// [`Error::Parameter`], [`Error::ContextLength`] or [`Error::TooLarge`].
    pub fn measure(&self, request: &Request) -> Result<(usize, usize), Error> {
        let (prompt, max_tokens) = self.prepare(request)?;
        Ok((prompt.len(), max_tokens))
    }

    fn prepare(&self, request: &Request) -> Result<(Vec<u32>, usize), Error> {
        let config = &self.base.config;
        request.sampling.validate(config.vocab)?;
        if request.n == 0 || request.n > MAX_CHOICES {
            let expected = format!("must be 1 to {MAX_CHOICES}");
            return Err(Error::parameter("n", request.n, expected));
        }
        if let Some(count) = request.logprobs.filter(|count| *count > MAX_TOP_LOGPROBS) {
            let expected = format!("at most {MAX_TOP_LOGPROBS}");
            return Err(Error::parameter("top_logprobs", count, expected));
        }
        let prompt = self.tokenize(&request.prompt)?;
        if prompt.is_empty() {
            return Err(Error::parameter("prompt", "\"\"", "must have a token"));
        }
        if let Some(token) = prompt.iter().find(|&&token| token as usize >= config.vocab) {
            let expected = format!("token ids are below {}", config.vocab);
            return Err(Error::parameter("prompt", token, expected));
        }
        let room = config.context.saturating_sub(prompt.len());
        let asked = request.sampling.max_tokens.map(|limit| limit as usize);
        let max_tokens = asked.unwrap_or((self.config.default_max_tokens as usize).min(room));
        if max_tokens == 0 || max_tokens > room {
            return Err(Error::ContextLength {
                prompt: prompt.len(),
                max_tokens: max_tokens.max(1),
                context: config.context,
            });
        }
        let needed = (prompt.len() + max_tokens) as u64 * cache_bytes_per_token(config);
        if needed > self.config.cache_bytes {
            return Err(Error::TooLarge {
                needed,
                limit: self.config.cache_bytes,
            });
        }
        Ok((prompt, max_tokens))
    }

    /// Queues a request. Returns at once, except that an adapter which is not in memory is read
    /// from disk first (milliseconds); asynchronous callers may want a blocking task for it.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Busy`], [`Error::Stopped`], a parameter out of range, or
    /// an adapter that cannot be read.
    pub fn submit(&self, request: Request) -> Result<Answers, Error> {
        let (prompt, max_tokens) = self.prepare(&request)?;
        let adapter = request
            .model
            .as_deref()
            .map(|name| self.adapters.acquire(name))
            .transpose()?;
        let answers = request.n as usize;
        // Per answer: the prompt, each token, the end, and a failure.
        let (events, receiver) = mpsc::channel(answers * (max_tokens + 3));
        let lead = match &request.prompt {
            Prompt::Chat(_) => self.template.lead().to_owned(),
            Prompt::Text(_) | Prompt::Tokens(_) => String::new(),
        };
        let prompt = Arc::new(prompt);
        let prompt_tokens = prompt.len();
        let sampler_digest = request.sampling.digest();
        let sampling = Arc::new(request.sampling);
        let mut state = self.shared.state();
        if state.stopping {
            return Err(Error::Stopped);
        }
        if !state.queue.has_room(answers) {
            return Err(Error::Busy {
                queued: state.queue.len(),
                limit: self.config.queue,
            });
        }
        for choice in 0..request.n {
            let job = Job {
                choice,
                adapter: adapter.clone(),
                prompt: Arc::clone(&prompt),
                sampling: Arc::clone(&sampling),
                sampler_digest,
                max_tokens,
                seed: request.seed.wrapping_add(u64::from(choice)),
                logprobs: request.logprobs,
                echo: request.echo,
                lead: lead.clone(),
                events: events.clone(),
            };
            state.queue.push(job.tenant(), job);
        }
        drop(state);
        self.shared.wake.notify_all();
        Ok(Answers {
            prompt_tokens,
            max_tokens,
            events: receiver,
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook; nothing is left to do.
            let _ = thread.join();
        }
    }
}

/// The engine thread's own state.
struct Worker {
    base: Arc<Base>,
    tokenizer: Tokenizer,
    config: EngineConfig,
    shared: Arc<Shared>,
    lanes: Vec<Active>,
    cache_bytes: u64,
}

impl Worker {
    fn run(mut self) {
        let mut workspace = Workspace::new();
        while self.admit() {
            if self.lanes.is_empty() {
                continue;
            }
            self.step(&mut workspace);
        }
        let waiting = self.shared.state().queue.drain();
        for job in waiting {
            let _ = job.events.try_send(Event::Failed(Error::Stopped));
        }
        for lane in &self.lanes {
            lane.fail(Error::Stopped);
        }
    }

    /// Bytes of cache that `job` needs.
    fn need(&self, job: &Job) -> u64 {
        job.capacity() as u64 * cache_bytes_per_token(&self.base.config)
    }

    /// Drops cancelled lanes, takes in waiting jobs, sleeps while there is nothing to do. Returns
    /// false when the engine is to stop.
    fn admit(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        for index in (0..self.lanes.len()).rev() {
            if !self.lanes[index].job.wanted() {
                self.remove(index, &mut state);
            }
        }
        loop {
            if state.stopping {
                return false;
            }
            state.queue.retain(Job::wanted);
            while self.lanes.len() < self.config.lanes {
                let free = self.config.cache_bytes.saturating_sub(self.cache_bytes);
                let Some((tenant, job)) = state.queue.pop(|job| self.need(job) <= free) else {
                    break;
                };
                let need = self.need(&job);
                let events = job.events.clone();
                match Active::new(job, &self.base.config, &self.tokenizer) {
                    Ok(lane) => {
                        self.cache_bytes += need;
                        self.lanes.push(lane);
                    }
                    Err(error) => {
                        let _ = events.try_send(Event::Failed(error));
                        state.queue.finished(tenant);
                    }
                }
            }
            state.stats.running = self.lanes.len();
            state.stats.cache_bytes = self.cache_bytes;
            if !self.lanes.is_empty() {
                return true;
            }
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn remove(&mut self, index: usize, state: &mut State) {
        let lane = self.lanes.remove(index);
        self.cache_bytes -= self.need(&lane.job);
        state.queue.finished(lane.job.tenant());
        state.stats.finished += 1;
    }

    /// Tokens of each lane in the next step: one for a running answer, a part of the rest of the
    /// budget for a prompt, oldest first; 0 = not in this step.
    fn plan(&self) -> Vec<usize> {
        let decoding = self.lanes.iter().filter(|lane| !lane.prefilling()).count();
        let mut budget = self.config.step_tokens.saturating_sub(decoding).max(1);
        self.lanes
            .iter()
            .map(|lane| {
                if !lane.prefilling() {
                    return 1;
                }
                let chunk = lane.remaining_prompt().min(budget);
                budget -= chunk;
                chunk
            })
            .collect()
    }

    fn step(&mut self, workspace: &mut Workspace) {
        let plan = self.plan();
        let mut lanes: Vec<Lane<'_>> = Vec::new();
        for (lane, &chunk) in self.lanes.iter_mut().zip(&plan) {
            if chunk > 0 {
                lanes.push(lane.lane(chunk));
            }
        }
        let outputs = step(&self.base, &mut lanes, workspace);
        drop(lanes);
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(error) => return self.give_up(&error),
        };
        let mut outputs = outputs.into_iter();
        let mut done = Vec::new();
        for (index, (lane, &fed)) in self.lanes.iter_mut().zip(&plan).enumerate() {
            if fed == 0 {
                continue;
            }
            let Some(output) = outputs.next() else { break };
            match lane.advance(fed, &output, &self.base.config, &self.tokenizer) {
                Ok(Progress::Running) => {}
                Ok(Progress::Finished) => done.push(index),
                Err(error) => {
                    lane.fail(error);
                    done.push(index);
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        state.stats.steps += 1;
        for (lane, &fed) in self.lanes.iter().zip(&plan) {
            state.queue.charge(lane.job.tenant(), fed as u64);
            state.stats.tokens += fed as u64;
        }
        for index in done.into_iter().rev() {
            self.remove(index, &mut state);
        }
    }

    /// A step failed as a whole: every lane of it gets to know.
    fn give_up(&mut self, error: &openledger_model::Error) {
        tracing::error!(%error, "a step failed");
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        for index in (0..self.lanes.len()).rev() {
            self.lanes[index].fail(Error::Step(error.to_string()));
            self.remove(index, &mut state);
        }
    }
}
