//! What each stream of random numbers of a run is for. Two uses never share a stream, so one can change without the other.

/// Initial weights.
pub const WEIGHTS: u64 = 1;
/// Dropout masks.
pub const DROPOUT: u64 = 2;
/// Initial values of what methods train: regressors, memories.
pub const ADAPTERS: u64 = 4;
/// What methods draw in each step: negatives.
pub const METHOD: u64 = 5;
/// The random subset of `--train-limit`.
pub const SUBSET: u64 = 3;
/// Which training images judge the trials of a search.
pub const VALIDATION: u64 = 31;
/// The settings of a search's trials.
pub const SEARCH: u64 = 32;
/// Wrong labels of the study of label noise.
pub const NOISE: u64 = 33;
/// The views of an image that an adapting teacher sees.
pub const VIEWS: u64 = 42;
/// Which weights adaptation sets back to what they were.
pub const RESTORE: u64 = 41;
