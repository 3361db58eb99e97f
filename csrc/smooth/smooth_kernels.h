// Kernels of map smoothing that each ISA level provides. A linear operator along one axis (bilinear resize, Gaussian,
// or the product of both) is a narrow band matrix, kept as blocks of B consecutive outputs that share their inputs.
#pragma once

#include <cstddef>

namespace edgead {

// Outputs [b*B, (b+1)*B) are weights[0..count)[B] times inputs [first, first + count).
struct BandBlock {
    int first, count;
    const float* weights;
};

// A symmetric filter along both axes: weights[0..radius] from the outermost to the middle one, radius a multiple of
// blur_taps. A map with its borders has rows and columns [-radius, size + radius), which equal those of the tables.
constexpr int blur_taps = 8;
constexpr int blur_columns = 64;  // columns that are read together, from whole cache lines
struct BlurFilter {
    int radius, width;
    const float* weights;
    const std::ptrdiff_t* rows;  // offset into the input
    const int* columns;          // column number
};

// Precision. `horizontal` and `vertical`: each output is one chain of `count` multiply-adds in float32. The weights are
// not negative and sum to 1, so the error is at most (count + 1) 2^-24 times the largest input magnitude. `blur`: each
// of its two passes is one chain of radius + 1 multiply-adds of sums of two inputs; a pass adds at most (radius + 3)
// 2^-24 times that magnitude. Weights of 0 add nothing.
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

    // Output rows [begin, end), at least `lanes` as is the width. With `rows` the next multiple of lanes, scratch holds
    // blur_columns (rows + 2 radius) + rows (width + 2 radius) floats. Returns the largest value written, or NaN if one
    // is not finite.
    float (*blur)(const float* input, const BlurFilter& filter, int begin, int end, float* scratch, float* output);
};

}  // namespace edgead
