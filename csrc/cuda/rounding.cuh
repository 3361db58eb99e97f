// Conversion of a row for the tensor cores, and the rounding error of each of its numbers.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace edgead::cuda {

__host__ __device__ inline std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

__host__ __device__ inline float float_of(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

__host__ __device__ inline float power_of_two(int exponent) {  // -126 to 127
    return float_of(static_cast<std::uint32_t>(exponent + 127) << 23);
}

__host__ __device__ inline bool is_finite(float value) { return (bits_of(value) & 0x7f800000u) != 0x7f800000u; }

// An IEEE half, and what it stands for.
struct Half {
    std::uint16_t bits;
    float value;
};

// Nearest half, ties to even, for |value| < 2^15; what would be subnormal becomes 0, because the PTX ISA leaves open
// what mma does with subnormal inputs.
__host__ __device__ inline Half to_half(float value) {
    const std::uint32_t sign = bits_of(value) & 0x80000000u, magnitude = bits_of(value) & 0x7fffffffu;
    // Floats have 13 digits more; a carry into the exponent is what it should be.
    const std::uint32_t rounded = (magnitude + 0xfffu + (magnitude >> 13 & 1u)) & ~0x1fffu;
    if (rounded < 0x38800000u) return {static_cast<std::uint16_t>(sign >> 16), float_of(sign)};  // 2^-14
    return {static_cast<std::uint16_t>(sign >> 16 | (rounded - 0x38000000u) >> 13), float_of(sign | rounded)};
}

// x -> x scale - centre, with a power of two as the scale, in two factors because it may be beyond float32. The bank's
// largest component is brought to [1, 2); a component that overflows is too far away for products.
struct Frame {
    const float* centre;  // (d)
    float scale[2];
};

// One rounding, u |result|; scaling is exact but for gradual underflow, 2^-149.
__host__ __device__ inline float centred(float value, float centre, const float (&scale)[2]) {
    return value * scale[0] * scale[1] - centre;
}

// A query is multiplied by 2^e before it is rounded to halves, so that its largest component lies in [2^8, 2^9):
// rounding to 11 digits then costs a component at most 2^-11 of itself, and what is lost to underflow 2^-22 of the
// largest one. Rows of the bank have one e, for the largest component of all. e is at most 60, which keeps products of
// two weights 2^-e normal.
constexpr float largest_component = 0x1p40f;  // beyond it, a query is measured against every row

__host__ __device__ inline int row_exponent(float peak) {  // peak: largest |component|, below largest_component
    const int exponent = static_cast<int>(bits_of(peak) >> 23) - 127;
    return exponent < -52 ? 60 : 8 - exponent;
}

}  // namespace edgead::cuda
