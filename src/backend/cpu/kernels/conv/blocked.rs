//! Planes with the channels last, a vector or two of them at a time: the layout in which neighbouring pixels are whole vectors.

use std::ops::Range;

use super::super::isa::Isa;
use super::super::transpose::transpose;
use super::Conv2d;

/// Padded planes of several images, `[block][image][pixel][lanes]`.
#[derive(Clone, Copy)]
pub(super) struct Blocked {
    pub channels: usize,
    pub lanes: usize,
    /// Height and width of a padded plane.
    pub padded: [usize; 2],
    pub images: usize,
}

/// How a stored plane lies in a padded one.
#[derive(Clone, Copy)]
pub(super) struct Placement {
    /// Height and width of the stored plane.
    pub source: [usize; 2],
    /// Where its first pixel goes; what lands outside is dropped.
    pub offset: [isize; 2],
}

impl Placement {
    /// The input of a convolution in its padding.
    pub fn input(conv: &Conv2d) -> Self {
        Placement { source: [conv.h, conv.w], offset: conv.padding.map(|p| p as isize) }
    }

    /// The stored rows or columns that land inside `size` padded ones, and where the first of them does.
    fn inside(&self, axis: usize, size: usize) -> (Range<usize>, usize) {
        let (source, offset) = (self.source[axis] as isize, self.offset[axis]);
        let start = (-offset).clamp(0, source);
        let end = (size as isize - offset).clamp(start, source);
        (start as usize..end as usize, (start + offset).max(0) as usize)
    }
}

impl Blocked {
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.lanes)
    }

    /// Elements of one image in one block.
    pub fn image_len(&self) -> usize {
        self.padded[0] * self.padded[1] * self.lanes
    }

    pub fn block_len(&self) -> usize {
        self.images * self.image_len()
    }

    /// Elements of all blocks.
    pub fn len(&self) -> usize {
        self.blocks() * self.block_len()
    }

    pub fn channels_of(&self, block: usize) -> Range<usize> {
        block * self.lanes..self.channels.min((block + 1) * self.lanes)
    }

    /// Distance of vertically and of horizontally adjacent taps of a filter with this dilation.
    pub fn tap_step(&self, dilation: [usize; 2]) -> [usize; 2] {
        [dilation[0] * self.padded[1] * self.lanes, dilation[1] * self.lanes]
    }

    /// Copies image `x`, `[c, h, w]`, into place `image` of a buffer that is zero elsewhere.
    pub fn fill(&self, isa: Isa, at: Placement, x: &[f32], image: usize, blocked: &mut [f32]) {
        let area = at.source[0] * at.source[1];
        let ((rows, top), (columns, left)) = (at.inside(0, self.padded[0]), at.inside(1, self.padded[1]));
        for block in 0..self.blocks() {
            let channels = self.channels_of(block);
            let to = &mut blocked[block * self.block_len() + image * self.image_len()..][..self.image_len()];
            for (i, row) in rows.clone().enumerate() {
                let from = &x[channels.start * area + row * at.source[1] + columns.start..];
                let to = &mut to[((top + i) * self.padded[1] + left) * self.lanes..];
                transpose(isa, [channels.len(), columns.len()], (from, area), (to, self.lanes));
            }
        }
    }

    /// Copies one image back, without its padding.
    pub fn extract(&self, isa: Isa, at: Placement, blocked: &[f32], x: &mut [f32]) {
        let area = at.source[0] * at.source[1];
        let ((rows, top), (columns, left)) = (at.inside(0, self.padded[0]), at.inside(1, self.padded[1]));
        for block in 0..self.blocks() {
            let channels = self.channels_of(block);
            let from = &blocked[block * self.block_len()..][..self.image_len()];
            for (i, row) in rows.clone().enumerate() {
                let from = &from[((top + i) * self.padded[1] + left) * self.lanes..];
                let to = &mut x[channels.start * area + row * at.source[1] + columns.start..];
                transpose(isa, [columns.len(), channels.len()], (from, self.lanes), (to, area));
            }
        }
    }
}
