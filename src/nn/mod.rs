//! Layers and what they are made of.

mod parameter;

pub use parameter::Parameter;
