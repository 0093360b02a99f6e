// The implicit matrices of a convolution: operands for block_product that read patches of images and gradients in place.
#pragma once
#include "tensor_product.cuh"

// Division of 0 ≤ n < 2³¹ by a number that was known before the launch, as a product and a shift (Granlund and Montgomery, PLDI 1994):
// three instructions in place of forty. src/backend/cuda/conv2d.rs computes factor and shift.
struct Divisor {
    u32 factor, shift;

    __device__ __forceinline__ int quotient(int n) const { return int(u64(u32(n)) * factor >> shift); }
};

// Sizes of a convolution, as in src/backend/params.rs; channels are counted over all groups.
struct Conv {
    int n, c_in, h, w, c_out, kh, kw;
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int groups, out_h, out_w;
    Scale gradient_scale;
    Divisor by_taps, by_kw, by_in_channels, by_out_channels, by_stride_h, by_stride_w, by_out_h, by_out_w, by_pooled_h, by_pooled_w;

    __device__ __forceinline__ int in_per_group() const { return c_in / groups; }
    __device__ __forceinline__ int out_per_group() const { return c_out / groups; }
    __device__ __forceinline__ int taps() const { return kh * kw; }
    // Outputs of the 2×2 pooling behind the convolution.
    __device__ __forceinline__ int pooled_h() const { return out_h / 2; }
    __device__ __forceinline__ int pooled_w() const { return out_w / 2; }
};

struct Pixel {
    int image, y, x;
};

// Output pixel number q. In window order the four pixels of a pooling window are neighbours: window q / 4, pixel q % 4 in it.
template <bool WINDOWS>
__device__ __forceinline__ Pixel output_pixel(const Conv& g, int q) {
    const int h = WINDOWS ? g.pooled_h() : g.out_h, w = WINDOWS ? g.pooled_w() : g.out_w;
    const int place = WINDOWS ? q / 4 : q, inside = WINDOWS ? q % 4 : 0;
    const int row = (WINDOWS ? g.by_pooled_w : g.by_out_w).quotient(place), image = (WINDOWS ? g.by_pooled_h : g.by_out_h).quotient(row);
    const int y = row - image * h, x = place - row * w;
    if (WINDOWS) return {image, 2 * y + inside / 2, 2 * x + inside % 2};
    return {image, y, x};
}

// The output pixel after p, which is number i of four that begin at a multiple of 4: so that four need one division.
template <bool WINDOWS>
__device__ __forceinline__ Pixel next_pixel(const Conv& g, Pixel p, int i) {
    if (WINDOWS) return i % 2 == 0 ? Pixel{p.image, p.y, p.x + 1} : Pixel{p.image, p.y + 1, p.x - 1};
    if (p.x + 1 < g.out_w) return {p.image, p.y, p.x + 1};
    if (p.y + 1 < g.out_h) return {p.image, p.y + 1, 0};
    return {p.image + 1, 0, 0};
}

template <bool WINDOWS>
__device__ __forceinline__ int output_pixels(const Conv& g) {
    return WINDOWS ? g.n * g.pooled_h() * g.pooled_w() * 4 : g.n * g.out_h * g.out_w;
}

// The largest of a window (ties: the first) after ReLU, and its place in the window, or 4 where ReLU clips all of it. Nothing beats a
// NaN, so that it shows in the result.
__device__ __forceinline__ void pool_window(const float (&v)[4], float& result, u8& winner) {
    float best = 0.0f;
    u8 place = 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (v[i] > best || (v[i] != v[i] && best == best)) best = v[i], place = u8(i);
    result = best;
    winner = place;
}

// Writes four results of a channel, of pixels q to q + 3 of all images, as far as they exist.
__device__ __forceinline__ void store_pixels(float* y, int channels, int area, int count, int channel, int q, float4 v) {
    if (area % 4 == 0 && q < count) {  // Then the four pixels are neighbours in one image.
        const u32 plane = u32(q / area) * u32(channels) + u32(channel);
        store4(y + plane * u32(area) + u32(q % area), v);
        return;
    }
    const float values[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4 && q + i < count; ++i) {
        const u32 plane = u32((q + i) / area) * u32(channels) + u32(channel);
        y[plane * u32(area) + u32((q + i) % area)] = values[i];
    }
}

// The results of a convolution: with a bias, clipped by ReLU, if asked for.
struct Outputs {
    const float* bias;
    int clip;
    float* y;

    // `v`: channel's results for pixels q to q + 3.
    __device__ __forceinline__ void store(const Conv& g, int channel, int q, float4 v) const {
        const float by = shift(channel);
        v = {v.x + by, v.y + by, v.z + by, v.w + by};
        if (clip) v = {relu(v.x), relu(v.y), relu(v.z), relu(v.w)};
        const int area = g.out_h * g.out_w;
        store_pixels(y, g.c_out, area, g.n * area, channel, q, v);
    }
    // What is added to all results of a channel.
    __device__ __forceinline__ float shift(int channel) const { return bias ? bias[channel] : 0.0f; }
    // One result, shifted.
    __device__ __forceinline__ void store_at(u32 at, float v) const { y[at] = clip ? relu(v) : v; }
};

// The same behind ReLU and 2×2 max-pooling.
struct PooledOutputs {
    const float* bias;
    float* y;
    u8* winners;

    // `v`: channel's results for the four pixels of window q / 4.
    __device__ __forceinline__ void store(const Conv& g, int channel, int q, float4 v) const {
        const int area = g.pooled_h() * g.pooled_w(), window = q / 4;
        if (window >= g.n * area) return;
        const float shift = bias[channel];
        const float values[4] = {v.x + shift, v.y + shift, v.z + shift, v.w + shift};
        const u32 plane = u32(window / area) * u32(g.c_out) + u32(channel);
        const u32 at = plane * u32(area) + u32(window % area);
        pool_window(values, y[at], winners[at]);
    }
};

// Element (channel, ky, kx) of the patch of an output pixel, zero in the padding. `image` starts at the group's first channel.
__device__ __forceinline__ float patch_element(const Conv& g, const float* image, int channel, int y, int x) {
    if (u32(y) >= u32(g.h) || u32(x) >= u32(g.w)) return 0.0f;
    return image[(u32(channel) * u32(g.h) + u32(y)) * u32(g.w) + u32(x)];
}

// b of the forward pass: element (k, q) is element k = (channel, ky, kx) of the patch of output pixel q.
template <bool WINDOWS>
struct Patches {
    static constexpr bool along_k = false, in_memory = false;
    Conv g;
    const float* x;
    int group;
    const float* image[4];
    int y[4], left[4];

    __device__ __forceinline__ void prepare(int q) {
        const int count = output_pixels<WINDOWS>(g);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const bool exists = q + i < count;
            const Pixel p = output_pixel<WINDOWS>(g, exists ? q + i : 0);
            const u32 channel = u32(p.image) * u32(g.c_in) + u32(group * g.in_per_group());
            image[i] = x + channel * u32(g.h) * u32(g.w);
            // A pixel that does not exist sees only padding.
            y[i] = exists ? p.y * g.stride_h - g.pad_h : -(1 << 30);
            left[i] = p.x * g.stride_w - g.pad_w;
        }
    }

    __device__ __forceinline__ float4 load(int k) const {
        if (k >= g.in_per_group() * g.taps()) return {0.0f, 0.0f, 0.0f, 0.0f};
        const int channel = g.by_taps.quotient(k), tap = k - channel * g.taps();
        const int ky = g.by_kw.quotient(tap), kx = tap - ky * g.kw;
        const int down = ky * g.dilation_h, right = kx * g.dilation_w;
        return {patch_element(g, image[0], channel, y[0] + down, left[0] + right),
                patch_element(g, image[1], channel, y[1] + down, left[1] + right),
                patch_element(g, image[2], channel, y[2] + down, left[2] + right),
                patch_element(g, image[3], channel, y[3] + down, left[3] + right)};
    }
};

// operand.at(q, pixel) of four output pixels from q on, a multiple of 4.
template <bool WINDOWS, class Operand>
__device__ __forceinline__ float4 four_pixels(const Conv& g, int q, const Operand& operand) {
    const Pixel p0 = output_pixel<WINDOWS>(g, q), p1 = next_pixel<WINDOWS>(g, p0, 0);
    const Pixel p2 = next_pixel<WINDOWS>(g, p1, 1), p3 = next_pixel<WINDOWS>(g, p2, 2);
    return {operand.at(q, p0), operand.at(q + 1, p1), operand.at(q + 2, p2), operand.at(q + 3, p3)};
}

// b of the weight gradient: element (q, j) is element j = (channel, ky, kx) of the patch of output pixel q; sums run over q.
template <bool WINDOWS>
struct PatchColumns {
    static constexpr bool along_k = true, in_memory = false;
    Conv g;
    const float* x;
    int group;
    int channel, down, right;
    bool exists;

    __device__ __forceinline__ void prepare(int j) {
        exists = j < g.in_per_group() * g.taps();
        const int in_group = g.by_taps.quotient(j), tap = j - in_group * g.taps();
        const int ky = g.by_kw.quotient(tap);
        channel = group * g.in_per_group() + in_group;
        down = ky * g.dilation_h - g.pad_h;
        right = (tap - ky * g.kw) * g.dilation_w - g.pad_w;
    }

    __device__ __forceinline__ float at(int q, Pixel p) const {
        if (!exists || q >= output_pixels<WINDOWS>(g)) return 0.0f;
        const float* image = x + u32(p.image) * u32(g.c_in) * u32(g.h) * u32(g.w);
        return patch_element(g, image, channel, p.y * g.stride_h + down, p.x * g.stride_w + right);
    }

    __device__ __forceinline__ float4 load(int q) const {
        if constexpr (WINDOWS) return window(q);
        return four_pixels<WINDOWS>(g, q, *this);
    }

    // The four pixels of a window have two rows and two columns.
    __device__ __forceinline__ float4 window(int q) const {
        if (!exists || q >= output_pixels<true>(g)) return {0.0f, 0.0f, 0.0f, 0.0f};
        const Pixel p = output_pixel<true>(g, q);
        const int y = p.y * g.stride_h + down, x_ = p.x * g.stride_w + right;
        const bool top = u32(y) < u32(g.h), bottom = u32(y + g.stride_h) < u32(g.h);
        const bool near = u32(x_) < u32(g.w), far = u32(x_ + g.stride_w) < u32(g.w);
        const float* at = x + int((u32(p.image) * u32(g.c_in) + u32(channel)) * u32(g.h) * u32(g.w)) + y * g.w + x_;
        const float* below = at + g.stride_h * g.w;
        return {top && near ? at[0] : 0.0f, top && far ? at[g.stride_w] : 0.0f, bottom && near ? below[0] : 0.0f,
                bottom && far ? below[g.stride_w] : 0.0f};
    }
    __device__ __forceinline__ static Scale scale() { return {}; }
};

// Weights in the order and precision in which products on tensor cores read them.
struct PackedWeights : Matrix<true> {
    static constexpr bool rounded = true;

    __device__ __forceinline__ PackedWeights(const float* from, int rows, int k) : Matrix<true>{from, rows, k, 0, Scale()} {}
};

// Patches whose sums run over the taps first and over the channels within each: element (k, q) is that of tap k / channels and channel
// k % channels. A thread finds out where its four pixels lie once for each tap, and adds a multiple of a channel's size for each element.
// A source says what is read:
//   prepare(q):        this thread's four pixels;
//   move(tap, i):      where pixel i lies at this tap, in the group's first channel;
//   at(i, offset):     what lies there, `offset` numbers later;
//   scale():           that of all of it.
template <class Source>
struct TapPatches {
    static constexpr bool along_k = false, in_memory = false;
    Source source;
    int tap;

    __device__ __forceinline__ void prepare(int q) {
        source.prepare(q);
        tap = -1;
    }

    __device__ __forceinline__ float4 load(int k) {
        const int now = source.by_channels().quotient(k);
        if (now >= source.g.taps()) return {0.0f, 0.0f, 0.0f, 0.0f};
        if (now != tap) {
            tap = now;
#pragma unroll
            for (int i = 0; i < 4; ++i) source.move(tap, i);
        }
        const u32 offset = u32(k - now * source.channels()) * u32(source.plane());
        return {source.at(0, offset), source.at(1, offset), source.at(2, offset), source.at(3, offset)};
    }
    __device__ __forceinline__ Scale scale() const { return source.scale(); }
};

// The input of the forward pass.
template <bool WINDOWS>
struct InputAtTaps {
    Conv g;
    const float* x;
    int group;
    u32 image[4];
    int y[4], left[4];
    u32 place[4];
    bool inside[4];

    __device__ __forceinline__ Divisor by_channels() const { return g.by_in_channels; }
    __device__ __forceinline__ int channels() const { return g.in_per_group(); }
    __device__ __forceinline__ int plane() const { return g.h * g.w; }

    __device__ __forceinline__ void prepare(int q) {
        const int count = output_pixels<WINDOWS>(g);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const bool exists = q + i < count;
            const Pixel p = output_pixel<WINDOWS>(g, exists ? q + i : 0);
            image[i] = (u32(p.image) * u32(g.c_in) + u32(group * g.in_per_group())) * u32(plane());
            // A pixel that does not exist sees only padding.
            y[i] = exists ? p.y * g.stride_h - g.pad_h : -(1 << 30);
            left[i] = p.x * g.stride_w - g.pad_w;
        }
    }

    __device__ __forceinline__ void move(int tap, int i) {
        const int ky = g.by_kw.quotient(tap), kx = tap - ky * g.kw;
        const int down = y[i] + ky * g.dilation_h, right = left[i] + kx * g.dilation_w;
        inside[i] = u32(down) < u32(g.h) && u32(right) < u32(g.w);
        place[i] = inside[i] ? image[i] + u32(down * g.w + right) : 0;
    }

    __device__ __forceinline__ float at(int i, u32 offset) const { return inside[i] ? x[place[i] + offset] : 0.0f; }
    __device__ __forceinline__ static Scale scale() { return {}; }
};

// The gradient of a convolution's output, as it is.
struct DenseGradient {
    static constexpr bool windows = false;
    const float* dy;

    __device__ __forceinline__ static int plane(const Conv& g) { return g.out_h * g.out_w; }

    // Where the gradient of an output in plane `number` (image and channel) lies, and what has to be true of it there; −1: it has none.
    __device__ __forceinline__ int locate(const Conv& g, u32 number, int y, int x, u32& place) const {
        place = (number * u32(g.out_h) + u32(y)) * u32(g.out_w) + u32(x);
        return 0;
    }
    // What is at a place that was located, or at place 0 plus the same channel's offset if there is none: no load waits for a branch.
    __device__ __forceinline__ float value(u32 place, int what) const {
        const float value = dy[place];
        return what < 0 ? 0.0f : value;
    }
};

// The same behind ReLU and 2×2 max-pooling: only each window's winner (0 to 3 in row-major order; 4: ReLU clipped all) has one.
struct PooledGradient {
    static constexpr bool windows = true;
    const float* dy;
    const u8* winner;

    __device__ __forceinline__ static int plane(const Conv& g) { return g.pooled_h() * g.pooled_w(); }

    __device__ __forceinline__ int locate(const Conv& g, u32 number, int y, int x, u32& place) const {
        place = 0;
        if (y / 2 >= g.pooled_h() || x / 2 >= g.pooled_w()) return -1;
        const u32 row = number * u32(g.pooled_h()) + u32(y / 2);
        place = row * u32(g.pooled_w()) + u32(x / 2);
        return y % 2 * 2 + x % 2;
    }
    __device__ __forceinline__ float value(u32 place, int what) const {
        const float value = dy[place];
        return winner[place] == what ? value : 0.0f;
    }

    // The gradients of a window's four outputs.
    __device__ __forceinline__ float4 window(const Conv& g, int channel, int number) const {
        const int row = g.by_pooled_w.quotient(number), image = g.by_pooled_h.quotient(row);
        const u32 first = (u32(image) * u32(g.c_out) + u32(channel)) * u32(plane(g));
        const u32 place = first + u32(number - image * plane(g));
        const float value = dy[place];
        const u8 won = winner[place];
        return {won == 0 ? value : 0.0f, won == 1 ? value : 0.0f, won == 2 ? value : 0.0f, won == 3 ? value : 0.0f};
    }
};

template <class Gradient>
__device__ __forceinline__ float gradient_at(const Conv& g, const Gradient& gradient, int image, int channel, int y, int x) {
    u32 place;
    const int what = gradient.locate(g, u32(image) * u32(g.c_out) + u32(channel), y, x, place);
    return gradient.value(place, what);
}

// a of the weight gradient: element (channel, q) is the gradient of output pixel q.
template <class Gradient>
struct GradientRows {
    static constexpr bool along_k = true, in_memory = false;
    Conv g;
    Gradient gradient;
    int group;
    int channel;

    __device__ __forceinline__ void prepare(int m) { channel = m; }

    __device__ __forceinline__ float at(int q, Pixel p) const {
        if (channel >= g.out_per_group() || q >= output_pixels<Gradient::windows>(g)) return 0.0f;
        return gradient_at(g, gradient, p.image, group * g.out_per_group() + channel, p.y, p.x);
    }

    __device__ __forceinline__ float4 load(int q) const {
        if constexpr (Gradient::windows) {
            if (channel >= g.out_per_group() || q >= output_pixels<true>(g)) return {0.0f, 0.0f, 0.0f, 0.0f};
            return gradient.window(g, group * g.out_per_group() + channel, q / 4);
        } else {
            return four_pixels<false>(g, q, *this);
        }
    }
    __device__ __forceinline__ Scale scale() const { return g.gradient_scale; }
};

// The output that brings a gradient to an input pixel at a tap, (y, x) of the input plus padding, `down` and `right` of the tap: whether
// there is one.
__device__ __forceinline__ bool output_at(const Conv& g, int y, int x, int down, int right, int& out_y, int& out_x) {
    const int from_y = y - down, from_x = x - right;
    if (from_y < 0 || from_x < 0) return false;
    out_y = g.by_stride_h.quotient(from_y), out_x = g.by_stride_w.quotient(from_x);
    return out_y * g.stride_h == from_y && out_x * g.stride_w == from_x && out_y < g.out_h && out_x < g.out_w;
}

// The output's gradient as input pixels see it.
template <class Gradient>
struct GradientAtTaps {
    Conv g;
    Gradient gradient;
    int group;
    int image[4], y[4], x[4];
    u32 place[4];
    int what[4];

    __device__ __forceinline__ Divisor by_channels() const { return g.by_out_channels; }
    __device__ __forceinline__ int channels() const { return g.out_per_group(); }
    __device__ __forceinline__ int plane() const { return Gradient::plane(g); }

    __device__ __forceinline__ void prepare(int q) {
        const int area = g.h * g.w, count = g.n * area;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const bool exists = q + i < count;
            const int at = exists ? q + i : 0;
            image[i] = at / area;
            const int inside = at - image[i] * area;
            y[i] = exists ? inside / g.w + g.pad_h : -1;  // A pixel that does not exist lies above every output.
            x[i] = inside % g.w + g.pad_w;
        }
    }

    __device__ __forceinline__ void move(int tap, int i) {
        const int ky = g.by_kw.quotient(tap), kx = tap - ky * g.kw;
        int out_y, out_x;
        what[i] = -1, place[i] = 0;
        if (output_at(g, y[i], x[i], ky * g.dilation_h, kx * g.dilation_w, out_y, out_x))
            what[i] = gradient.locate(g, u32(image[i]) * u32(g.c_out) + u32(group * g.out_per_group()), out_y, out_x, place[i]);
    }

    __device__ __forceinline__ float at(int i, u32 offset) const { return gradient.value(place[i] + offset, what[i]); }
    __device__ __forceinline__ Scale scale() const { return g.gradient_scale; }
};

// b of the input gradient: element (k, q) is the gradient of the output that tap k = (output channel, ky, kx) brings to input pixel q.
template <class Gradient>
struct GradientPatches {
    static constexpr bool along_k = false, in_memory = false;
    GradientAtTaps<Gradient> source;

    __device__ __forceinline__ void prepare(int q) { source.prepare(q); }

    __device__ __forceinline__ float at(int i, int channel, int down, int right) const {
        const Conv& g = source.g;
        int out_y, out_x;
        if (!output_at(g, source.y[i], source.x[i], down, right, out_y, out_x)) return 0.0f;
        return gradient_at(g, source.gradient, source.image[i], source.group * g.out_per_group() + channel, out_y, out_x);
    }

    __device__ __forceinline__ float4 load(int k) const {
        const Conv& g = source.g;
        if (k >= g.out_per_group() * g.taps()) return {0.0f, 0.0f, 0.0f, 0.0f};
        const int channel = g.by_taps.quotient(k), tap = k - channel * g.taps();
        const int ky = g.by_kw.quotient(tap);
        const int down = ky * g.dilation_h, right = (tap - ky * g.kw) * g.dilation_w;
        return {at(0, channel, down, right), at(1, channel, down, right), at(2, channel, down, right),
                at(3, channel, down, right)};
    }
};

// a of the input gradient: element (input channel, k = (output channel, ky, kx)) of the weights [c_out, c_in / groups, kh, kw].
struct WeightColumns {
    static constexpr bool along_k = true, in_memory = false;
    Conv g;
    const float* weight;
    int group;
    int channel;

    __device__ __forceinline__ void prepare(int m) { channel = m; }

    __device__ __forceinline__ float at(int k) const {
        if (channel >= g.in_per_group() || k >= g.out_per_group() * g.taps()) return 0.0f;
        const int out = g.by_taps.quotient(k), tap = k - out * g.taps();
        const u32 row = u32(group * g.out_per_group() + out) * u32(g.in_per_group()) + u32(channel);
        return weight[row * u32(g.taps()) + u32(tap)];
    }

    __device__ __forceinline__ float4 load(int k) const { return {at(k), at(k + 1), at(k + 2), at(k + 3)}; }
};
