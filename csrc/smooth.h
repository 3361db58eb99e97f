// Maps: what an ISA level provides for smoothing. A linear operator along one axis (bilinear resize, Gaussian, or the
// product of both) is a matrix with a narrow band, kept as blocks of B consecutive outputs that share their inputs.
#pragma once

#include <cstddef>

namespace edgead {

// Outputs [b*B, (b+1)*B) are weights[0..count)[B] times inputs [first, first + count).
struct BandBlock {
    int first, count;
    const float* weights;
};

// A symmetric filter of both axes, its weights from the outermost to the middle one: weights[0..radius].
// columns[0..width + 2 radius) are the columns that a line and its borders are read from.
struct BlurFilter {
    int radius, width;
    const float* weights;
    const int* columns;
};
constexpr int BLUR_TAPS = 8;  // `radius` is a multiple of it

struct SmoothKernels {
    int lanes;       // B of the horizontal operator; its output rows are padded to a multiple of it
    int block_rows;  // B of the vertical operator

    // output[row][block * lanes + lane] for rows [begin, end) of input (rows of `width` floats) and all blocks.
    void (*horizontal)(const float* input, std::size_t width, const BandBlock* blocks, int block_count, int begin,
                       int end, float* output);

    // Output rows [begin, end) (begin is a multiple of block_rows) of `width` floats from rows of `stride` floats.
    // Returns the largest value written.
    float (*vertical)(const float* input, std::size_t stride, const BandBlock* blocks, int begin, int end, int width,
                      float* output);

    // `count` output rows of width >= lanes from rows[0..lanes + 2 radius). strip: lanes (width + 2 radius) floats
    // of scratch. Returns the largest value written, or NaN if one is not finite.
    float (*blur)(const float* const* rows, const BlurFilter& filter, int count, float* strip, float* output);
};

// Precision of both: each output is one chain of `count` multiply-adds in float32. The weights are not negative and sum
// to 1, so the error is at most (count + 1) 2^-24 times the largest input magnitude.
extern const SmoothKernels smooth_baseline, smooth_neon, smooth_avx2, smooth_avx512;

}  // namespace edgead
