//! The gradient of a pooled convolution as a list: for each output channel, the pixels that won and their gradients.
//!
//! A 2×2 pool leaves a gradient on at most one pixel in four, fewer after ReLU, so walking the list does a quarter of the
//! dense arithmetic or less. Pixels are addressed in channel-last padded planes, `[block][pixel][lanes]`, where the nine
//! neighbours under a 3×3 filter are nine vectors of channels.

use std::ops::Range;

use super::super::scratch::{take, Scratch};
use super::super::simd::Simd;
use super::super::vector::CLIPPED;
use super::Conv2d;

/// Taps of the filters these kernels are written for.
pub(super) const TAPS: usize = 9;

/// Whether the sparse kernels take this geometry: 3×3 filters, one group.
pub(super) fn suits(conv: &Conv2d) -> bool {
    conv.groups == 1 && conv.kh == 3 && conv.kw == 3
}

/// Vectors of channels in a block: two where the registers hold 18 accumulators, unless one has all channels.
pub(super) fn vectors<S: Simd>(channels: usize) -> usize {
    if S::MANY_REGISTERS && channels > S::LANES {
        2
    } else {
        1
    }
}

/// The winners of several images, output channel by output channel.
pub(super) struct Winners {
    /// Where the list of each channel starts; one more entry for the end of the last.
    starts: Scratch<usize>,
    offsets: Scratch<usize>,
    gradients: Scratch<f32>,
}

/// How a winning pixel is turned into an offset.
#[derive(Clone, Copy)]
pub(super) struct Addressing {
    /// Distance of vertically and of horizontally adjacent outputs.
    pub output_step: [usize; 2],
    /// Distance of images.
    pub image_step: usize,
}

impl Winners {
    /// Lists `images` of the batch.
    pub fn list(conv: &Conv2d, dy: &[f32], winner: &[u8], images: Range<usize>, address: Addressing) -> Self {
        let (rows, columns) = (conv.out_h() / 2, conv.out_w() / 2);
        let area = rows * columns;
        let [down, right] = address.output_step;
        // Indexed by winner; the clipped ones are overwritten by the next entry.
        let places = [0, right, down, down + right, 0, 0, 0, 0];
        let mut starts = take(conv.c_out + 1);
        let mut offsets = take(images.len() * conv.c_out * area + 1);
        let mut gradients = take(offsets.len());
        let mut len = 0;
        for channel in 0..conv.c_out {
            starts[channel] = len;
            for (i, image) in images.clone().enumerate() {
                let plane = (image * conv.c_out + channel) * area;
                for row in 0..rows {
                    let first = i * address.image_step + 2 * row * down;
                    let at = plane + row * columns;
                    let windows = dy[at..at + columns].iter().zip(&winner[at..at + columns]);
                    for (column, (&gradient, &winner)) in windows.enumerate() {
                        offsets[len] = first + 2 * column * right + places[usize::from(winner & 7)];
                        gradients[len] = gradient;
                        len += usize::from(winner < CLIPPED);
                    }
                }
            }
        }
        starts[conv.c_out] = len;
        Winners { starts, offsets, gradients }
    }

    /// Offsets and gradients of one output channel.
    pub fn of(&self, channel: usize) -> (&[usize], &[f32]) {
        let range = self.starts[channel]..self.starts[channel + 1];
        (&self.offsets[range.clone()], &self.gradients[range])
    }
}
