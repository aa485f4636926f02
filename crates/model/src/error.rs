//! What can go wrong, as facts.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("{}: not the expected JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A safetensors file is damaged.
    #[error("{}: damaged safetensors file: {source}; fetch the file again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: safetensors::SafeTensorError,
    },
    /// A GGUF file is damaged, or is one of a kind that is not read.
    #[error("{}: damaged or unreadable GGUF file: {message}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A tensor of a GGUF file is stored in a format that is not read.
    #[error("{}: tensor `{tensor}` is stored as {found}; {supported} are read", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The stored format, as ggml names it.
        found: String,
        /// The formats that are read.
        supported: &'static str,
    },
    /// A number is too large for the format it should be written in.
    #[error(
        "tensor `{tensor}`: {value} at element {index} does not fit into {format}; write bf16 or f32"
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// Index of the first such element.
        index: usize,
        /// The number.
        value: f32,
        /// The format.
        format: &'static str,
    },
    /// A model or tokenizer that a file format has no way to say.
    #[error("{field} is {value}, which {format} cannot say: it knows {expected}")]
    Inexpressible {
        /// What cannot be said.
        field: &'static str,
        /// Its value.
        value: String,
        /// The file format.
        format: &'static str,
        /// What it can say.
        expected: String,
    },
    /// A configuration asks for something this engine does not do.
    #[error("{}: field `{field}` is {value}, but this engine supports {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value as JSON.
        value: String,
        /// What would work.
        supported: String,
    },
    /// A configuration lacks a field.
    #[error("{}: field `{field}` is missing", path.display())]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
    },
    /// A weight file lacks a tensor.
    #[error("{}: tensor `{tensor}` is missing; expected shape {expected:?}", path.display())]
    MissingTensor {
        /// The file or directory.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// A weight file holds a tensor that no part of the model reads.
    #[error("{}: tensor `{tensor}` of shape {shape:?} does not belong to this model", path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "{}: tensor `{tensor}` has shape {found:?}, the configuration says {expected:?}",
        path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a number format that is not read.
    #[error("{}: tensor `{tensor}` is stored as {dtype}; F32, F16 and BF16 are read", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The stored format.
        dtype: String,
    },
    /// A weight is NaN or infinite.
    #[error("{}: tensor `{tensor}` is not finite at element {index}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Index of the first bad element.
        index: usize,
    },
    /// The tokenizer library refused.
    #[error("{}: {message}", path.display())]
    Tokenizer {
        /// The tokenizer file, or `training` when there is none yet.
        path: PathBuf,
        /// What the library said.
        message: String,
    },
    /// A chat template cannot be read, or refuses a conversation.
    #[error("{}: the chat template {message}", path.display())]
    ChatTemplate {
        /// The file that holds it.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The tokenizer knows tokens that the model has no embedding for.
    #[error(
        "the tokenizer has {tokenizer} tokens but the model embeds only {model}; they are not a pair"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// A token is outside the vocabulary.
    #[error("token {token} at position {position} is outside the vocabulary of {vocab}")]
    Token {
        /// The token.
        token: u32,
        /// Where it stands.
        position: usize,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A sequence is longer than the model or the cache allows.
    #[error("a sequence of {length} tokens does not fit in {limit}")]
    Length {
        /// The length asked for.
        length: usize,
        /// What fits.
        limit: usize,
    },
    /// An example holds no target to learn from.
    #[error("an example of {tokens} tokens with loss from {loss_from} has no target token")]
    NoTarget {
        /// Tokens of the example.
        tokens: usize,
        /// First target position.
        loss_from: usize,
    },
    /// A lane has nothing to compute.
    #[error("lane {lane} has no new token")]
    EmptyLane {
        /// Index of the lane.
        lane: usize,
    },
    /// Two parts were made for models of different shape.
    #[error("{what} was made for {found}, but the base model is {expected}")]
    Mismatch {
        /// The part.
        what: &'static str,
        /// Its shape.
        found: String,
        /// The base model's shape.
        expected: String,
    },
    /// A gradient buffer has the wrong length.
    #[error("the gradient buffer holds {found} numbers, the parameters are {expected}")]
    GradientLength {
        /// Length given.
        found: usize,
        /// Length needed.
        expected: usize,
    },
    /// A setting is out of range.
    #[error("{field} = {value} is out of range: {expected}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The computation left the finite numbers.
    #[error("{what} is not finite; the weights or the learning rate have diverged")]
    Diverged {
        /// The quantity.
        what: &'static str,
    },
}
