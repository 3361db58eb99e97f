// A fixed rotation of rows that spreads what a few dimensions have over all of them, in d log d additions: one step of
// 8-bit codes then suits every dimension of a row.
//
// A row, with zeros behind its d numbers, is chunks of 32, of which each lane has one. Random signs, and a Hadamard
// transform along the first p chunks; the same along the last p, where p, the largest power of two that fits, is not
// all of them; then a Hadamard transform over the lanes. Each is divided by the root of its size, and so a rotation.
//
// What is computed is off by at most 24 u times the row's length, with u = 2^-24: an addition of two numbers costs u of
// the result, so a step of a transform u of its length; a factor, which is rounded itself, 2 u. That is 10 + 5 steps
// and 3 factors at most, for the 48 chunks of most_turned, and rotations enlarge no error that was there before.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "layout.cuh"
#include "rounding.cuh"
#include "warp.cuh"

namespace edgead::cuda {

struct Turn {
    int chunks, along;  // p
    float share;        // 1 / sqrt(p)

    explicit Turn(int d) : chunks((d + warp_lanes - 1) / warp_lanes), along(1) {
        while (2 * along <= chunks) along *= 2;
        share = static_cast<float>(1 / std::sqrt(along));
    }
};

// Bit `lane`: whether that lane's number of the chunk changes its sign. Any numbers do that look random.
__host__ __device__ inline unsigned turned_signs(int chunk, int round) {
    unsigned mixed = static_cast<unsigned>(2 * chunk + round + 1) * 0x9e3779b9u;
    mixed = (mixed ^ mixed >> 16) * 0x85ebca6bu;
    mixed = (mixed ^ mixed >> 13) * 0xc2b2ae35u;
    return mixed ^ mixed >> 16;
}

// By a warp: `mine` is where the lane's number of the first chunk is, 32 floats before that of the next.
__device__ inline void turn_row(const Turn& turn, float* mine) {
    const int lane = threadIdx.x % warp_lanes, rounds = turn.along == turn.chunks ? 1 : 2;
    for (int round = 0; round < rounds; ++round) {
        const int first = round * (turn.chunks - turn.along);
        float* part = mine + first * warp_lanes;
#pragma unroll 4
        for (int j = 0; j < turn.along; ++j) {
            const unsigned sign = turned_signs(first + j, round) << (warp_lanes - 1 - lane) & 0x80000000u;
            part[j * warp_lanes] = float_of(bits_of(part[j * warp_lanes]) ^ sign) * turn.share;
        }
        for (int step = 1; step < turn.along; step *= 2)
#pragma unroll 4
            for (int pair = 0; pair < turn.along / 2; ++pair) {
                const int j = (2 * pair - (pair & (step - 1))) * warp_lanes, other = j + step * warp_lanes;
                const float a = part[j], b = part[other];
                part[j] = a + b;
                part[other] = a - b;
            }
    }
#pragma unroll 4
    for (int j = 0; j < turn.chunks; ++j) {
        float value = mine[j * warp_lanes] * 0x1.6a09e6p-3f;  // 1 / sqrt(32)
        for (int step = 1; step < warp_lanes; step *= 2)
            value = __shfl_xor_sync(all_lanes, value, step) + (lane & step ? -value : value);
        mine[j * warp_lanes] = value;
    }
}

}  // namespace edgead::cuda
