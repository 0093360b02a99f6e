//! Layers and what they are made of.

mod activation;
mod context;
mod conv;
mod conv_norm;
mod dropout;
mod embedding;
mod init;
mod linear;
mod module;
mod norm;
mod parameter;
mod pooling;
mod sequential;
mod upsample;

pub use activation::{Activation, Flatten};
pub use context::{Context, NormInput, PRE_ACTIVATION};
pub use conv::{Conv2d, ConvThen};
pub use conv_norm::ConvNormRelu;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use init::Init;
pub use linear::Linear;
pub use module::{check_state, load_state, Module, StateMismatch, Visitor};
pub use norm::{BatchNorm2d, LayerNorm};
pub use parameter::{InputRange, Parameter, View};
pub use pooling::{AdaptiveAvgPool2d, AvgPool2d, MaxPool2d};
pub use sequential::{Layer, Sequential};
pub use upsample::{LeakyRelu, Upsample};

#[cfg(test)]
mod tests;
