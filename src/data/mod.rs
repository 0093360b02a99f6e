//! Data sets: where they come from, what they hold, and how they reach the model.

mod augment;
mod classes;
pub mod corrupt;
mod curriculum;
mod dataset;
pub mod digits;
pub mod download;
pub mod idx;
mod load;
mod loader;
pub mod sources;
mod views;

pub use augment::AugmentConfig;
pub use classes::Classes;
pub use curriculum::Curriculum;
pub use dataset::{Dataset, Splits};
pub use load::{find_source, load};
pub use loader::{Batch, Epoch, Loader, LoaderConfig, Mix};
pub use views::View;
