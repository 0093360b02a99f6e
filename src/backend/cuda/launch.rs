//! How many threads each kernel gets: the one place where grids and blocks are chosen.
//!
//! Every choice depends on the problem's size and the precision alone, so that a result has the same bits on every GPU; only whether clusters
//! of blocks share very long rows depends on the GPU, too.

use super::driver::DeviceInfo;
use super::format::Format;

/// A grid of blocks, and the threads of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Blocks by x, y and z.
    pub grid: [u32; 3],
    /// Threads a block.
    pub block: u32,
}

impl Config {
    /// The same grid `y` times, along y.
    pub fn with_y(self, y: usize) -> Config {
        Config { grid: [self.grid[0], y.max(1) as u32, self.grid[2]], ..self }
    }
}

/// Threads a block of the kernels that stride over their elements, and of those that multiply tiles.
pub const THREADS: u32 = 256;
/// Threads of a block that works on one row or channel together.
pub const TEAM: u32 = 512;
/// Threads of a warp.
const WARP: u32 = 32;
/// Blocks that fill the largest GPUs several times over; what is left the grid strides over.
const MAX_BLOCKS: usize = 4096;
/// The most blocks that a grid can have along y or z.
pub const MAX_GRID_YZ: usize = 65_535;

/// Rows of up to this many elements are the work of eight lanes.
const PART_ROW: usize = 32;
const PART: u32 = 8;
/// Rows of up to this many elements are a warp's work, longer ones a block's.
const WARP_ROW: usize = 1024;
/// Rows from this length on are split among blocks where there are too few rows to fill the device; the distillation loss gives them to
/// clusters of blocks where these exist.
const SPLIT_ROW: usize = 16_384;
const SPLIT_BELOW_ROWS: usize = 64;
/// The stretch of a split row that one block takes.
const STRETCH: usize = 8192;

fn blocks(work: usize, per_block: usize) -> u32 {
    work.div_ceil(per_block).clamp(1, MAX_BLOCKS) as u32
}

/// Kernels that handle four neighbouring elements a thread.
pub fn elements_by_four(n: usize) -> Config {
    Config { grid: [blocks(n, 4 * THREADS as usize), 1, 1], block: THREADS }
}

/// Kernels that handle one element a thread.
pub fn elements(n: usize) -> Config {
    Config { grid: [blocks(n, THREADS as usize), 1, 1], block: THREADS }
}

/// Kernels whose grid does not stride: one thread an element, in x; `y` groups of them.
pub fn exactly(n: usize, y: usize) -> Config {
    Config { grid: [n.div_ceil(THREADS as usize).max(1) as u32, y as u32, 1], block: THREADS }
}

/// One block of `threads`.
pub fn one_block(threads: u32) -> Config {
    Config { grid: [1, 1, 1], block: threads }
}

/// A block for each of `n` channels, in x.
pub fn block_each(n: usize, threads: u32) -> Config {
    Config { grid: [n.max(1) as u32, 1, 1], block: threads }
}

/// A warp for each row; the grid strides.
pub fn warp_each(rows: usize) -> Config {
    Config { grid: [blocks(rows, (THREADS / WARP) as usize), 1, 1], block: THREADS }
}

/// Who works on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowTeam {
    /// Eight lanes of a warp.
    Part(Config),
    /// One warp.
    Warp(Config),
    /// One block.
    Block(Config),
    /// Several blocks, each on a stretch of the row.
    Parts { config: Config, stretch: usize },
}

/// The team for rows whose kernel also exists for a part of a warp.
pub fn small_row_team(rows: usize, columns: usize) -> RowTeam {
    match columns <= PART_ROW {
        true => RowTeam::Part(Config { grid: [blocks(rows, (THREADS / PART) as usize), 1, 1], block: THREADS }),
        false => row_team(rows, columns),
    }
}

/// The team for rows whose kernel exists for a warp and for a block.
pub fn row_team(rows: usize, columns: usize) -> RowTeam {
    match columns <= WARP_ROW {
        true => RowTeam::Warp(warp_each(rows)),
        false => RowTeam::Block(Config { grid: [blocks(rows, 1), 1, 1], block: TEAM }),
    }
}

/// The team for rows whose kernel can also split a row.
pub fn split_row_team(rows: usize, columns: usize) -> RowTeam {
    if columns < SPLIT_ROW || rows >= SPLIT_BELOW_ROWS {
        return small_row_team(rows, columns);
    }
    let parts = columns.div_ceil(STRETCH) as u32;
    RowTeam::Parts { config: Config { grid: [parts, rows as u32, 1], block: TEAM }, stretch: STRETCH }
}

/// Blocks of a cluster (`kernels/cluster.cuh`).
pub const CLUSTER: usize = 8;

/// Whether clusters should take pairs of rows of elements of so many bytes: of very long ones, if there are fewer than multiprocessors, or if
/// those that blocks would work on at once do not fit the cache.
pub fn wants_clusters(rows: usize, columns: usize, bytes: usize, info: &DeviceInfo) -> bool {
    /// Blocks of a multiprocessor that work on a row each.
    const BLOCKS: usize = 2;
    let multiprocessors = info.multiprocessors as usize;
    let at_work = 2 * rows.min(BLOCKS * multiprocessors) * columns * bytes;
    // Not all of a cache is there for them: gradients go through it, too.
    columns >= SPLIT_ROW && (rows < multiprocessors || at_work as u64 > info.cache / 10 * 7)
}

/// The clusters for these rows on a device that runs so many at once, if it runs any: one for each row at a time, which goes on to a further row.
pub fn clusters(rows: usize, at_once: u32) -> Option<Config> {
    let blocks = rows.clamp(1, at_once.max(1) as usize) * CLUSTER;
    (at_once > 0).then_some(Config { grid: [blocks as u32, 1, 1], block: TEAM })
}

/// What one block computes of a matrix product; see `kernels/tile_product.cuh` and `kernels/tensor_product.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 128 × 128 results in `f32`.
    Large,
    /// 64 × 64 results in `f32`.
    Small,
    /// 64 × 128 results on tensor cores.
    Tensor(Format),
    /// 128 × 128 results on tensor cores. Matrices have it, convolutions have not.
    LargeTensor(Format),
}

impl Tile {
    /// The tile for results of m × n in the precision that was asked for.
    pub fn for_product(m: usize, n: usize) -> Tile {
        Format::active().map_or_else(|| Tile::in_f32(m, n), Tile::Tensor)
    }

    /// The large tile where it would not be mostly padding, whatever was asked for.
    pub fn in_f32(m: usize, n: usize) -> Tile {
        match m >= 96 && n >= 96 {
            true => Tile::Large,
            false => Tile::Small,
        }
    }

    /// The tiles that give the same bits as this one, for a convolution: the one that is expected to be the fastest first.
    pub fn candidates(self) -> Vec<Tile> {
        match self {
            Tile::Large => vec![Tile::Large, Tile::Small],
            Tile::Small => vec![Tile::Small, Tile::Large],
            on_tensor_cores => vec![on_tensor_cores],
        }
    }

    /// The same, for z products of matrices of m × n results.
    pub fn candidates_for_matrices(self, m: usize, n: usize, z: usize) -> Vec<Tile> {
        let Tile::Tensor(format) = self else { return self.candidates() };
        let large = Tile::LargeTensor(format);
        let fills = large.count(m, n).into_iter().product::<usize>() * z >= ENOUGH_BLOCKS;
        if fills {
            vec![large, self]
        } else {
            vec![self, large]
        }
    }

    /// Whether products are made on tensor cores.
    pub fn has_tensor_cores(self) -> bool {
        !matches!(self, Tile::Large | Tile::Small)
    }

    /// Rows and columns of results.
    pub fn extents(self) -> [usize; 2] {
        match self {
            Tile::Large | Tile::LargeTensor(_) => [128, 128],
            Tile::Small => [64, 64],
            Tile::Tensor(_) => [64, 128],
        }
    }

    /// The products that kernels add up at a time, or a multiple.
    fn slice(self) -> usize {
        match self {
            Tile::Large | Tile::Small => 16,
            Tile::Tensor(format) | Tile::LargeTensor(format) => 16 * format.in_a_word(),
        }
    }

    /// How many tiles cover m × n results, along m and along n.
    fn count(self, m: usize, n: usize) -> [usize; 2] {
        let [rows, columns] = self.extents();
        [m.div_ceil(rows).max(1), n.div_ceil(columns).max(1)]
    }

    /// A block for each tile of `z` results of m × n.
    pub fn grid(self, m: usize, n: usize, z: usize) -> Config {
        let [rows, columns] = self.count(m, n);
        Config { grid: [columns as u32, rows as u32, z as u32], block: THREADS }
    }
}

/// The kernel of a family for a tile.
macro_rules! for_tile {
    ($tile:expr, $name:literal) => {
        match $tile {
            Tile::Large => concat!($name, "_large"),
            Tile::Small => concat!($name, "_small"),
            Tile::Tensor(Format::Tf32) => concat!($name, "_tf32"),
            Tile::Tensor(Format::Bf16) => concat!($name, "_bf16"),
            Tile::Tensor(Format::F16) => concat!($name, "_f16"),
            Tile::LargeTensor(Format::Tf32) => concat!($name, "_large_tf32"),
            Tile::LargeTensor(Format::Bf16) => concat!($name, "_large_bf16"),
            Tile::LargeTensor(Format::F16) => concat!($name, "_large_f16"),
        }
    };
}
pub(super) use for_tile;

/// How a sum over `k` is split so that m × n tiles alone do not leave the device idle: the number of splits and the length of each,
/// a multiple of what kernels read at a time.
pub fn split_k(tile: Tile, m: usize, n: usize, k: usize, groups: usize) -> (usize, usize) {
    let tiles = tile.count(m, n).into_iter().product::<usize>() * groups;
    split_for(tiles, k, tile.slice(), (MAX_GRID_YZ / groups.max(1)).max(1))
}

/// The same for `batch` products of matrices. A block alone walks over a thousand numbers in some 10 µs, five times what the second pass
/// costs; shorter sums are left whole.
pub fn split_product(tile: Tile, m: usize, n: usize, k: usize, batch: usize) -> (usize, usize) {
    const WORTH_IT: usize = 1024;
    match k < WORTH_IT {
        true => (1, k),
        false => split_k(tile, m, n, k, batch),
    }
}

/// The same for so many tiles of any kernel that adds up `slice` products at a time and can do with `most` splits.
pub fn split_for(tiles: usize, k: usize, slice: usize, most: usize) -> (usize, usize) {
    /// Enough blocks for every multiprocessor of the largest GPUs.
    const WANTED: usize = 256;
    /// Shorter sums are not worth a second pass.
    const SHORTEST: usize = 256;
    let splits = (WANTED / tiles.max(1)).clamp(1, k.div_ceil(SHORTEST).clamp(1, most));
    let stretch = k.div_ceil(splits).next_multiple_of(slice).max(slice);
    (k.div_ceil(stretch).max(1), stretch)
}

/// Enough blocks that the largest GPUs have one for every multiprocessor.
pub const ENOUGH_BLOCKS: usize = 132;

/// How a sum of `reduced` numbers for each of `results` is split among blocks: the number of splits and the length of each.
pub fn split_sum(results: usize, reduced: usize) -> (usize, usize) {
    /// Enough threads to fill a device.
    const WANTED: usize = 65_536;
    const SHORTEST: usize = 256;
    let most = reduced.div_ceil(SHORTEST).clamp(1, 1024);
    let splits = (WANTED / results.max(1)).clamp(1, most);
    let stretch = reduced.div_ceil(splits).max(1);
    (reduced.div_ceil(stretch).max(1), stretch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_their_work_within_the_limits_of_the_hardware() {
        for n in [0, 1, 255, 256, 257, 1 << 20, 1 << 30] {
            for config in [elements(n), elements_by_four(n), warp_each(n)] {
                assert!(config.grid[0] >= 1 && config.grid[0] as usize <= MAX_BLOCKS && config.block == THREADS);
            }
            let config = exactly(n, 3);
            assert!(config.grid[0] as usize * THREADS as usize >= n && config.grid[1] == 3);
        }
        for (m, n) in [(1, 1), (64, 64), (96, 96), (129, 1000), (4_000_000, 10)] {
            for tile in [Tile::in_f32(m, n), Tile::Tensor(Format::Tf32), Tile::Tensor(Format::F16)] {
                let (Config { grid: [x, y, z], .. }, [rows, columns]) = (tile.grid(m, n, 7), tile.extents());
                assert!(x as usize * columns >= n && y as usize * rows >= m && z == 7);
                assert!(y as usize <= MAX_GRID_YZ);
            }
        }
    }

    #[test]
    fn rows_go_to_a_team_of_fitting_size() {
        assert!(matches!(row_team(128, 10), RowTeam::Warp(_)));
        assert!(matches!(small_row_team(128, 32), RowTeam::Part(Config { grid: [4, 1, 1], .. })));
        assert!(matches!(small_row_team(128, 33), RowTeam::Warp(_)));
        assert!(matches!(row_team(128, 1024), RowTeam::Warp(_)));
        assert!(matches!(row_team(128, 1025), RowTeam::Block(_)));
        assert!(matches!(split_row_team(1000, 262_144), RowTeam::Block(_)));
        let RowTeam::Parts { config, stretch } = split_row_team(2, 262_144) else {
            panic!("too few rows for a block each")
        };
        assert_eq!((config.grid, stretch), ([32, 2, 1], 8192));
    }

    #[test]
    fn clusters_take_long_rows_that_are_few_or_do_not_fit_the_cache() {
        let (multiprocessors, cache) = (132, 50 << 20);
        let info = DeviceInfo { name: String::new(), capability: (9, 0), multiprocessors, memory: 80 << 30, cache };
        let wants = |rows, columns, bytes| wants_clusters(rows, columns, bytes, &info);
        assert!(!wants(2, SPLIT_ROW - 1, 4) && wants(2, SPLIT_ROW, 4), "very long rows");
        assert!(!wants(512, SPLIT_ROW, 4) && wants(512, 32_000, 4), "more than fit the cache");
        assert!(!wants(512, 32_000, 2) && wants(512, 128_256, 2), "fewer bytes");
        let blocks = |rows, at_once| clusters(rows, at_once).map(|config| config.grid);
        assert_eq!((blocks(2, 0), blocks(2, 16), blocks(1000, 16)), (None, Some([16, 1, 1]), Some([128, 1, 1])));
    }

    #[test]
    fn splits_cover_the_sum_and_none_is_empty() {
        for k in [1, 15, 16, 17, 511, 512, 513, 100_352] {
            for (m, n, groups) in [(64, 9, 1), (128, 576, 1), (1, 9, 512), (256, 1152, 2)] {
                for tile in [Tile::in_f32(m, n), Tile::Tensor(Format::Tf32), Tile::Tensor(Format::F16)] {
                    let (splits, stretch) = split_k(tile, m, n, k, groups);
                    assert!(
                        splits * stretch >= k && (splits - 1) * stretch < k && stretch % tile.slice() == 0,
                        "{k} {splits} {stretch}"
                    );
                    assert!(splits * groups <= MAX_GRID_YZ);
                }
            }
            for results in [1, 100, 1 << 20] {
                let (splits, stretch) = split_sum(results, k);
                assert!(splits * stretch >= k && (splits - 1) * stretch < k);
            }
        }
    }
}
