// Batches from a data set that lies in device memory: bytes are gathered by index, moved, mirrored and blanked as each image's plan says,
// and turned into numbers in [0, 1]. A thread owns an output pixel; neighbours read neighbours, or nearly so under rotation. 1 to 4 bytes
// read and 4 written a pixel: limited by memory, and nothing but the index list crosses the bus.
//
// And counts of what a classifier got right.
#include "common.cuh"

// What happens to an image, as in src/backend/params.rs: it is moved by (dy, dx) and rotated about its centre, mirrored if mirrored is
// not 0; then the square of `side` pixels round (cut_y, cut_x) is set to 0.
struct ImagePlan {
    float dy, dx, sine, cosine, mirrored;
    float cut_y, cut_x, side;
};

struct ImageSizes {
    int channels, h, w;
};

__device__ __forceinline__ float pixel(const u8* plane, const ImageSizes& s, float y, float x) {
    if (!(y >= 0.0f && x >= 0.0f && y < float(s.h) && x < float(s.w))) return 0.0f;
    return float(plane[int(y) * s.w + int(x)]) * (1.0f / 255.0f);
}

// Bilinear between the pixels that this one comes from, 0 outside. No fused multiply-adds: every backend rounds alike.
__device__ __forceinline__ float moved_pixel(const u8* plane, const ImageSizes& s, const ImagePlan& p, int target_y, int target_x) {
    const float centre_y = (float(s.h) - 1.0f) / 2.0f, centre_x = (float(s.w) - 1.0f) / 2.0f;
    const float y = float(target_y) - centre_y - p.dy, x = float(target_x) - centre_x - p.dx;
    const float from_y = __fadd_rn(__fsub_rn(__fmul_rn(p.cosine, y), __fmul_rn(p.sine, x)), centre_y);
    const float across = __fadd_rn(__fmul_rn(p.sine, y), __fmul_rn(p.cosine, x));
    const float from_x = p.mirrored != 0.0f ? centre_x - across : centre_x + across;
    const float y0 = floorf(from_y), x0 = floorf(from_x), fy = from_y - y0, fx = from_x - x0;
    const auto row = [&](float at) {
        return __fadd_rn(__fmul_rn(pixel(plane, s, at, x0), 1.0f - fx), __fmul_rn(pixel(plane, s, at, x0 + 1.0f), fx));
    };
    return __fadd_rn(__fmul_rn(row(y0), 1.0f - fy), __fmul_rn(row(y0 + 1.0f), fy));
}

__device__ __forceinline__ bool is_cut(const ImagePlan& p, int y, int x) {
    const int side = int(p.side), top = int(p.cut_y) - side / 2, left = int(p.cut_x) - side / 2;
    return y >= top && y < top + side && x >= left && x < left + side;
}

// Image index[i] as image i; `plans` may be null.
extern "C" __global__ void __launch_bounds__(256)
    gather_images(ImageSizes s, const u8* images, const int* index, const ImagePlan* plans, float* out, u32 n) {
    const u32 area = u32(s.h) * u32(s.w), size = u32(s.channels) * area;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const u32 image = i / size, inside = i % size;
        const u8* from = images + u32(index[image]) * size;
        if (!plans) {
            out[i] = float(from[inside]) * (1.0f / 255.0f);
            continue;
        }
        const int y = inside % area / u32(s.w), x = inside % u32(s.w);
        out[i] = is_cut(plans[image], y, x) ? 0.0f : moved_pixel(from + inside / area * area, s, plans[image], y, x);
    }
}

// counts[label][prediction] += 1 for every sample. Whole numbers come out the same in any order.
extern "C" __global__ void __launch_bounds__(256)
    count_confusion(const int* predictions, const int* labels, int* counts, u32 classes, u32 n) {
    for (u32 i = grid_thread(); i < n; i += grid_threads()) atomicAdd(&counts[u32(labels[i]) * classes + u32(predictions[i])], 1);
}
