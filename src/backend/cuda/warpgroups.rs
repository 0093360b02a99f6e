//! Tiles of 3 × 3 convolutions by the instructions of compute capability 9.0 (`kernels/conv2d_3x3_wgmma.cu`).

use super::conv2d_3x3::{pitch, Team, Tiles, Width};
use super::launch::Config;
use super::tuner::on_or_off;
use crate::backend::params::Conv2dGeometry;

/// The compute capability that has these instructions.
pub(super) const CAPABILITY: (u32, u32) = (9, 0);

const VARIABLE: &str = "KDENGINE_WGMMA";

/// Whether they are among those that are chosen between: if `KDENGINE_WGMMA` is `on`.
///
/// # Errors
/// The variable has a value that means nothing.
pub(super) fn are_on() -> Result<bool, String> {
    Ok(on_or_off(VARIABLE)?.unwrap_or(false))
}

/// Output channels and threads of a block, and the places of its wide and of its narrow tile.
const CHANNELS: usize = 64;
const THREADS: u32 = 128;
const PLACES: [(Width, usize); 2] = [(Width::Wide, 256), (Width::Narrow, 128)];
/// Places that a stretch has room for beyond the tile's own.
const AROUND: usize = 120;

/// The tiles for a convolution with these kernels' geometry; none for few channels, where half of each would be empty, and wide images.
pub(super) fn tiles(g: &Conv2dGeometry, windows: bool) -> Vec<Tiles> {
    let around = 2 * pitch(g) + 2;
    if g.c_out <= CHANNELS / 2 || around > AROUND {
        return Vec::new();
    }
    let made = |(width, places): (Width, usize)| {
        let pairs = if windows { pairs(g, places / pitch(g)) } else { 0 };
        let count = match windows {
            true => (g.n * (g.h / 2)).div_ceil(pairs.max(1)),
            // All places but those of the zeros above the first image.
            false => ((g.n * (g.h + 1) - 1) * pitch(g)).div_ceil(places),
        };
        let config = Config { grid: [count as u32, g.c_out.div_ceil(CHANNELS) as u32, 1], block: THREADS };
        let tiles = Tiles { team: Team::Warpgroup, width, config, stretch: places + around, pairs };
        (pairs > 0 || !windows).then_some(tiles)
    };
    PLACES.into_iter().filter_map(made).collect()
}

/// The most pairs of rows that pooling windows lie in, one after another through all images, which always fit so many rows of the stretch.
fn pairs(g: &Conv2dGeometry, rows: usize) -> usize {
    let in_image = g.h / 2;
    // Rows between the pairs of neighbouring images: zeros, and a last row without a partner.
    let between = 1 + g.h % 2;
    let fit = |pairs: usize| 2 * pairs + (pairs + in_image - 2) / in_image * between <= rows;
    (1..=rows / 2).take_while(|&pairs| fit(pairs)).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn so_many_pairs_of_rows_fit_wherever_they_begin_and_one_more_does_not(n in 1..20usize, h in 2..40usize, rows in 1..90usize) {
            let one = [1, 1];
            let g = Conv2dGeometry { n, c_in: 8, h, w: 8, c_out: 64, kh: 3, kw: 3, stride: one, padding: one, dilation: one, groups: 1 };
            let row = |pair: usize| pair / (h / 2) * (h + 1) + pair % (h / 2) * 2;
            let longest = |pairs: usize| (0..h / 2).map(|first| row(first + pairs - 1) + 2 - row(first)).max().unwrap();
            let pairs = pairs(&g, rows);
            prop_assert!(pairs == 0 || longest(pairs) <= rows);
            prop_assert!(longest(pairs + 1) > rows);
        }
    }
}
