// Kernels of image shrinking that each ISA level provides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace edgead {

// All of it is integers: no rounding, whatever the order.
struct ShrinkKernels {
    // total[i] += weight * (rows[0] + ... + rows[count - 1])[i] for i in [0, width); rows are `stride` bytes apart.
    void (*add_rows)(const std::uint8_t* rows, std::ptrdiff_t stride, int count, std::uint32_t weight, int width,
                     std::uint32_t* total);

    // sums[c] = the sum of channel c of `count` pixels of three channels. Four numbers are written, and one more than
    // the pixels have is read.
    void (*add_pixels)(const std::uint32_t* pixels, int count, std::uint64_t* sums);
};

}  // namespace edgead
