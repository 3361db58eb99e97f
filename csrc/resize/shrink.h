// Shrinking of images: each pixel is the exact mean of the source pixels that it covers, rounded half to even.
#pragma once

#include <cstddef>
#include <cstdint>

#include "resize/shrink_kernels.h"

namespace edgead {

constexpr int shrink_channels = 3;
constexpr int shrink_most_side = 1 << 20;

struct PixelRows {
    const std::uint8_t* data;
    std::ptrdiff_t stride;  // bytes from row to row
    int height, width;
};

// `output` has height x width pixels in C order; neither side grows, none of the source exceeds shrink_most_side.
void shrink(const PixelRows& source, int height, int width, const ShrinkKernels& kernels, std::uint8_t* output);

}  // namespace edgead
