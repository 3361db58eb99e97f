// The instructions of csrc/cuda/ptx/tensor_core.cuh, written from the PTX ISA's description of them ("Matrix fragments
// for mma.m16n8k16", "ldmatrix", "cp.async") and from what is known of the hardware's additions: 8 products and the
// accumulator, aligned to the largest, cut to 24 digits without a guard digit, and the sum cut once more (Fasi et al.
// 2021).
#pragma once

#include <cuda_runtime.h>

#include <vector>

namespace edgead::cuda {

inline double value_of_half(unsigned bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
    if (exponent == 31 || (exponent == 0 && fraction != 0)) emulator::fail("a half that mma need not handle");
    const double magnitude = exponent == 0 ? 0 : std::ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}

inline double half_value(unsigned bits) {
    static const std::vector<double> table = [] {
        std::vector<double> values(1 << 16);
        for (unsigned i = 0; i < values.size(); ++i)
            values[i] = (i >> 10 & 31) == 31 || ((i >> 10 & 31) == 0 && (i & 1023)) ? NAN : value_of_half(i);
        return values;
    }();
    const double value = table[bits];
    return value == value ? value : value_of_half(bits);
}

inline float add_cut(const double* terms, int count) {
    double largest = 0;
    for (int i = 0; i < count; ++i) largest = std::max(largest, std::fabs(terms[i]));
    if (largest == 0) return 0;
    const int exponent = std::ilogb(largest);
    const double up = std::ldexp(1.0, 23 - exponent);
    std::int64_t sum = 0;
    for (int i = 0; i < count; ++i) sum += static_cast<std::int64_t>(terms[i] * up);
    std::int64_t digit = 1;
    while (std::abs(sum / digit) >= 1 << 24) digit *= 2;
    sum = sum / digit * digit;  // towards zero
    return static_cast<float>(static_cast<double>(sum) / up);
}

inline void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    struct Operand {
        float* d;
        const std::uint32_t* a;
        std::uint32_t b[2];
    } mine{d, a, {b0, b1}};
    emulator::meet("mma.m16n8k16", mine, [](Operand** lanes) {
        double left[16][16], right[16][8];
        for (int lane = 0; lane < 32; ++lane) {
            const int group = lane >> 2, thread = lane % 4;
            for (int i = 0; i < 8; ++i) {
                const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
                const int column = thread * 2 + (i & 1) + (i < 4 ? 0 : 8);
                left[row][column] = half_value(lanes[lane]->a[i / 2] >> 16 * (i & 1) & 0xffff);
            }
            for (int i = 0; i < 4; ++i) {
                const int row = thread * 2 + (i & 1) + (i < 2 ? 0 : 8);
                right[row][group] = half_value(lanes[lane]->b[i / 2] >> 16 * (i & 1) & 0xffff);
            }
        }
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i) {
                const int row = (lane >> 2) + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
                for (int k = 0; k < 16; k += 8) {
                    double terms[9] = {lanes[lane]->d[i]};
                    for (int t = 0; t < 8; ++t) terms[1 + t] = left[row][k + t] * right[k + t][column];
                    lanes[lane]->d[i] = add_cut(terms, 9);
                }
            }
    });
}

inline void load_matrices(std::uint32_t (&matrix)[4], const uint4* row) {
    struct Operand {
        std::uint32_t* matrix;
        const uint4* row;
    } mine{matrix, row};
    emulator::meet("ldmatrix.x4", mine, [](Operand** lanes) {
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i)
                std::memcpy(&lanes[lane]->matrix[i],
                            reinterpret_cast<const char*>(lanes[8 * i + lane / 4]->row) + lane % 4 * 4, 4);
    });
}

inline void apply(const emulator::Copy& copy) { std::memcpy(copy.target, copy.source, 16); }

inline void copy_async(uint4* target, const void* source) {
    if (reinterpret_cast<std::uintptr_t>(target) % 16 != 0 || reinterpret_cast<std::uintptr_t>(source) % 16 != 0)
        emulator::fail("cp.async of 16 bytes is not aligned");
    const emulator::Copy copy{target, source};
    if (emulator::block.late_copies)
        emulator::block.fibers[emulator::block.current]->copies.back().push_back(copy);
    else
        apply(copy);
}

inline void commit_copies() { emulator::block.fibers[emulator::block.current]->copies.emplace_back(); }

template <int pending>
void wait_for_copies() {
    auto& copies = emulator::block.fibers[emulator::block.current]->copies;
    while (copies.size() > pending + 1) {
        for (const emulator::Copy& copy : copies.front()) apply(copy);
        copies.erase(copies.begin());
    }
}

}  // namespace edgead::cuda
