//! Easy images first (Bengio et al. 2009): which images an epoch shows, and in which order.

use crate::tensor::random::Sequence;

/// The share of the images that the first epoch shows.
const FIRST_SHARE: f64 = 0.25;

/// How the images that are shown grow from the easiest quarter to all of them.
#[derive(Clone, Debug)]
pub struct Curriculum {
    /// All images, the easiest first.
    pub easiest_first: Vec<u32>,
    /// Epochs after which all images are shown. Their number grows linearly until then.
    pub growing_epochs: f64,
}

impl Curriculum {
    /// How many of the easiest images epoch `epoch` (from 0) shows.
    pub fn shown(&self, epoch: u64) -> usize {
        let all = self.easiest_first.len();
        let grown = if self.growing_epochs > 0.0 { (epoch as f64 / self.growing_epochs).min(1.0) } else { 1.0 };
        ((all as f64 * (FIRST_SHARE + (1.0 - FIRST_SHARE) * grown)).ceil() as usize).clamp(1, all.max(1))
    }

    /// The images of an epoch in a random order. They are repeated until there are as many as in any other epoch, so that a training
    /// has as many steps with a curriculum as without.
    pub(super) fn order(&self, epoch: u64, random: &mut Sequence) -> Vec<u32> {
        let (all, shown) = (self.easiest_first.len(), self.shown(epoch));
        let mut order = Vec::with_capacity(all + shown);
        while order.len() < all {
            order.extend(random.permutation(shown).into_iter().map(|i| self.easiest_first[i as usize]));
        }
        order.truncate(all);
        order
    }
}
