// Convolution and its gradients as implicit matrix products (tile_product.cuh in f32, tensor_product.cuh on tensor cores; operands
// in conv2d.cuh). Per group:
//   forward:          [c_out × c_in·kh·kw] · [c_in·kh·kw × pixels]
//   input gradient:   [c_in × c_out·kh·kw] · [c_out·kh·kw × input pixels]
//   weight gradient:  [c_out × pixels] · [pixels × c_in·kh·kw], the pixels split among blocks, whose partial sums a second pass adds in
//                     order
// Neighbouring threads read neighbouring pixels. Each input element is read once for each tile of output channels and tap, nearly always
// from cache, so arithmetic is the limit: 2·c_out·c_in·kh·kw operations for each pixel.
//
// Behind ReLU and 2×2 max-pooling the pixels come in window order: the four columns that a thread holds side by side are one window, so
// the maximum and its winner are taken in registers and the convolution's output never reaches memory.
#include "conv2d.cuh"

// Patches of the input as the tile wants them: on tensor cores sums run over taps first.
template <class Tile, bool WINDOWS>
__device__ __forceinline__ auto input_patches(const Conv& g, const float* x, int group) {
    if constexpr (Tile::TENSOR_CORES) {
        TapPatches<InputAtTaps<WINDOWS>> patches;
        patches.source.g = g, patches.source.x = x, patches.source.group = group;
        return patches;
    } else {
        Patches<WINDOWS> patches;
        patches.g = g, patches.x = x, patches.group = group;
        return patches;
    }
}

// A matrix of weights, [rows, k], as the tile wants it: on tensor cores packed by conv2d_weights.
template <class Tile>
__device__ __forceinline__ auto weight_rows(const float* weight, int rows, int k) {
    if constexpr (Tile::TENSOR_CORES)
        return PackedWeights(weight, rows, k);
    else
        return Matrix<true>{weight, rows, k, 0, Scale()};
}

template <class Tile, bool WINDOWS, class Output>
__device__ __forceinline__ void forward(const Conv& g, const float* x, const float* weight, const Output& output) {
    const int group = blockIdx.z, k = g.in_per_group() * g.taps();
    const auto rows = weight_rows<Tile>(weight + u32(group * g.out_per_group()) * u32(k), g.out_per_group(), k);
    block_product<Tile>(blockIdx.y * Tile::M, blockIdx.x * Tile::N, 0, k, rows, input_patches<Tile, WINDOWS>(g, x, group),
                        [&](int row, int q, float4 v) {
                            if (row < g.out_per_group()) output.store(g, group * g.out_per_group() + row, q, v);
                        });
}

// The weights' columns as the tile wants them: on tensor cores they are rows, packed by conv2d_weights.
template <class Tile>
__device__ __forceinline__ auto weight_columns(const Conv& g, const float* weight, int group, int k) {
    if constexpr (Tile::TENSOR_CORES) {
        return weight_rows<Tile>(weight + u32(group * g.in_per_group()) * u32(k), g.in_per_group(), k);
    } else {
        WeightColumns columns;
        columns.g = g, columns.weight = weight, columns.group = group;
        return columns;
    }
}

template <class Tile, class Gradient>
__device__ __forceinline__ auto gradient_patches(const Conv& g, Gradient gradient, int group) {
    GradientAtTaps<Gradient> source;
    source.g = g, source.gradient = gradient, source.group = group;
    if constexpr (Tile::TENSOR_CORES)
        return TapPatches<GradientAtTaps<Gradient>>{source, -1};
    else
        return GradientPatches<Gradient>{source};
}

template <class Tile, class Gradient>
__device__ __forceinline__ void grad_input(const Conv& g, Gradient gradient, const float* weight, float* dx) {
    const int group = blockIdx.z, area = g.h * g.w, k = g.out_per_group() * g.taps();
    block_product<Tile>(blockIdx.y * Tile::M, blockIdx.x * Tile::N, 0, k, weight_columns<Tile>(g, weight, group, k),
                        gradient_patches<Tile>(g, gradient, group), [&](int row, int q, float4 v) {
                            const int channel = group * g.in_per_group() + row;
                            if (row < g.in_per_group()) store_pixels(dx, g.c_in, area, g.n * area, channel, q, v);
                        });
}

// The block with blockIdx.z = group · splits + split sums over its stretch of pixels into sums[split], shaped like the weights.
template <class Tile, class Gradient>
__device__ __forceinline__ void grad_weight(const Conv& g, const float* x, Gradient gradient, int splits, int stretch, float* sums) {
    const int group = blockIdx.z / splits, split = blockIdx.z % splits;
    const int columns = g.in_per_group() * g.taps(), pixels = output_pixels<Gradient::windows>(g);
    GradientRows<Gradient> rows;
    rows.g = g, rows.gradient = gradient, rows.group = group;
    PatchColumns<Gradient::windows> patches;
    patches.g = g, patches.x = x, patches.group = group;
    float* to = sums + (u32(split) * u32(g.c_out) + u32(group * g.out_per_group())) * u32(columns);
    const int first = split * stretch;
    block_product<Tile>(blockIdx.y * Tile::M, blockIdx.x * Tile::N, first, min(first + stretch, pixels), rows, patches,
                        [&](int row, int column, float4 v) {
                            if (row < g.out_per_group()) store_row(to + u32(row) * u32(columns), column, columns, v);
                        });
}

// BLOCKS on a multiprocessor at once: two hide each other's waits; the large tile in f32 needs too many registers for that.
#define FOR_TILE(SUFFIX, TILE, BLOCKS)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                 \
        conv2d_##SUFFIX(Conv g, const float* x, const float* weight, const float* bias, int clip, float* y) {                 \
        forward<TILE, false>(g, x, weight, Outputs{bias, clip, y});                                                                          \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                 \
        conv2d_relu_pool_##SUFFIX(Conv g, const float* x, const float* weight, const float* bias, float* y, u8* winners) {    \
        forward<TILE, true>(g, x, weight, PooledOutputs{bias, y, winners});                                                             \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                 \
        conv2d_grad_input_##SUFFIX(Conv g, const float* dy, const float* weight, float* dx) {                                 \
        grad_input<TILE>(g, DenseGradient{dy}, weight, dx);                                                                   \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                 \
        conv2d_pooled_grad_input_##SUFFIX(Conv g, const float* dy, const u8* winners, const float* weight, float* dx) {       \
        grad_input<TILE>(g, PooledGradient{dy, winners}, weight, dx);                                                         \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                 \
        conv2d_grad_weight_##SUFFIX(Conv g, const float* x, const float* dy, int splits, int stretch, float* sums) {          \
        grad_weight<TILE>(g, x, DenseGradient{dy}, splits, stretch, sums);                                                    \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS) conv2d_pooled_grad_weight_##SUFFIX(                             \
        Conv g, const float* x, const float* dy, const u8* winners, int splits, int stretch, float* sums) {                   \
        grad_weight<TILE>(g, x, PooledGradient{dy, winners}, splits, stretch, sums);                                          \
    }

FOR_TILE(large, LargeTile, 1)
FOR_TILE(small, SmallTile, 2)
FOR_TILE(tf32, TensorTile<Tf32>, 2)
FOR_TILE(bf16, TensorTile<Bf16>, 2)
FOR_TILE(f16, TensorTile<F16>, 2)

// The weights for products on tensor cores, `n` of them: for the forward pass as [c_out, taps, c_in / groups], for the input gradient as
// [groups, c_in / groups, taps, c_out / groups]; rounded to TF32 if asked for, once instead of at each use.
extern "C" __global__ void __launch_bounds__(256)
    conv2d_weights(Conv g, const float* weight, int backward, int to_tf32, float* packed, u32 n) {
    const u32 taps = g.taps(), in = g.in_per_group(), out = g.out_per_group();
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const u32 inner = backward ? out : in, row = i / (inner * taps), tap = i / inner % taps, column = i % inner;
        const u32 from_out = backward ? row / in * out + column : row, from_in = backward ? row % in : column;
        const float value = weight[(from_out * in + from_in) * taps + tap];
        packed[i] = to_tf32 ? float_of_bits(float_to_tf32(value)) : value;
    }
}

// The bias gradient behind pooling: a block sums one channel's gradients where ReLU let the window through.
extern "C" __global__ void __launch_bounds__(256)
    pooled_bias_grad(const float* dy, const u8* winners, float* db, int n, int channels, int area) {
    const int channel = blockIdx.x;
    float sum = 0.0f;
    for (int image = 0; image < n; ++image) {
        const u32 plane = (u32(image) * u32(channels) + u32(channel)) * u32(area);
        for (int i = threadIdx.x; i < area; i += blockDim.x)
            if (winners[plane + i] < 4) sum += dy[plane + i];
    }
    sum = block_reduce(sum, Add());
    if (threadIdx.x == 0) db[channel] = sum;
}
