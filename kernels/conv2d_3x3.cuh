// 3 × 3 convolutions with stride 1 and padding 1 on tensor cores.
//
// Idea: where an implicit matrix product fetches each pixel nine times, once for each tap, here a block brings the stretch of pixels that
// its results need into shared memory once for each slice of channels, rounded, and all nine taps read it there. The stretch holds the
// rows of the images one after another with one column of zeros behind each row and one row of zeros between images: so the border of
// a row is the end of the row before, a tap is the same shift for every pixel, and no reader asks where an image ends. A word holds what
// a lane needs at once: one channel in TF32, two neighbours of shorter formats, eight words of each pixel a slice.
#pragma once
#include "conv2d.cuh"

constexpr int TAPS = 9;
// Words of one pixel in a slice: what one mma adds up.
constexpr int DEEP = 8;

// Numbers as words: of TF32 one, of shorter formats two.
template <class Format, class Value>
__device__ __forceinline__ u32 word_of(int number, Value value) {
    if constexpr (Format::IN_A_WORD == 1)
        return float_to_tf32(value(number));
    else
        return Format::word(value(2 * number), value(2 * number + 1));
}

// Where pixels lie in the stretch that goes through all images; `PaddedRows` in src/backend/cuda/conv2d_3x3.rs.
struct PaddedRows {
    int pitch, height;  // A row and the zeros behind it; the rows of an image and the zeros above it.
    int longest;        // The most places that a block needs.
    Divisor by_pitch, by_height;

    __device__ __forceinline__ int at(Pixel p) const { return (p.image * height + p.y + 1) * pitch + p.x; }

    // What lies at a place, from `pitch` on: a pixel, or a zero behind its row or, with y = h, below its image.
    __device__ __forceinline__ Pixel pixel(int at) const {
        const int row = by_pitch.quotient(at) - 1, image = by_height.quotient(row);
        return {image, row - image * height, at - (row + 1) * pitch};
    }

    // The same of the next place.
    __device__ __forceinline__ Pixel next(Pixel p) const {
        if (++p.x == pitch) p.x = 0, ++p.y;
        if (p.y == height) p.y = 0, ++p.image;
        return p;
    }

    // Where `source`, of so many channels, holds in its first channel what belongs at `at`, and what has to be true of it there; −1: zero.
    template <class Source>
    __device__ __forceinline__ int locate(const Conv& g, const Source& source, int channels, int at, u32& place) const {
        place = 0;
        if (at < pitch) return -1;
        const Pixel p = pixel(at);
        if (p.image >= g.n || p.y >= g.h || p.x >= g.w) return -1;
        return source.locate(g, u32(p.image) * u32(channels), p.y, p.x, place);
    }
};

// A thread's places in the stretch, the same in every channel: `first` and every so many places after it.
template <class Format, int EACH, class Source>
struct Places {
    Source source;
    int channels;
    u32 plane;
    Scale scale;
    u32 place[EACH];
    int what[EACH];

    __device__ __forceinline__ Places(const Conv& g, const PaddedRows& rows, const Source& source_, int first, int step) : source(source_) {
        channels = g.c_in, plane = u32(Source::plane(g)), scale = g.gradient_scale;
#pragma unroll
        for (int i = 0; i < EACH; ++i) what[i] = rows.locate(g, source, channels, first + i * step, place[i]);
    }

    // What the stretch holds at place i in a row of words.
    __device__ __forceinline__ u32 word(int row, int i) const {
        return word_of<Format>(row, [&](int channel) {
            const float value = source.value(place[i] + u32(min(channel, channels - 1)) * plane, channel < channels ? what[i] : -1);
            return scaled<Format>(value, scale);
        });
    }
};

// Rows of weights that are packed together.
constexpr int PACKED_ROWS = 64;
