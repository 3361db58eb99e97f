// Squared distances as sums of two float32, with a proof of when float64 would give the same result.
//
// float64 runs at 1/32 to 1/64 of the speed of float32 on edge GPUs, but it defines the result: the root of the float64
// sum, rounded to float32, and the order of these sums. A sum of two floats has 48 binary digits and decides both,
// unless it lies within its error of a value where the root rounds to another float, or of another row's sum. Then, and
// if squares leave the range of float32, the query is measured in float64.
//
// With u = 2^-24, T the exact sum, n = d / 32 terms of a lane (rounded up), and additions, products and fused ones
// rounded to nearest as they are written (compile with --fmad=false, without --ftz=true):
//   h + l = a - b                      exact (Knuth's two-sum), |l| <= u |h|
//   p + e = h h                        exact, e <= u p, by a fused multiply-add
//   c = 2 h l + e                      at most 3 u^2 h^2, by its rounding
//   p + c for (a - b)^2                l^2, at most u^2 h^2, is left out
//   s + r = s + p                      exact, r <= u s
//   g = r + c, then w = w + g          u (u T + 3 u h^2), and u (i + 3) u T with i terms: |w| <= (i + 3) u T
// which adds up to (n^2 / 2 + 4.5 n + 7) u^2 T in a lane, and T there is the lane's. Each of five additions of lanes in
// pairs rounds twice, with |w| <= (n + 3 + step) u T: 10 n + 60 more. Then high + low = s + w is exact. The float64 sum
// is off by (n + 8) 2^-53 = (n + 8) / 32 u^2, and its root, rounded to float64 first, by 2^-4 u^2 in terms of T.
// n^2 / 2 + 16 n + 96 holds all of it, and 16 u^2 for what comparisons round; 1.02 is for terms of higher order.
// Underflow takes at most 2^-149 from each of 2^20 terms: 2^-5 u^2 of sums from 2^-76 on. Overflow ends as an infinite
// or NaN sum.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "rounding.cuh"

namespace edgead::cuda {

// |low| <= u |high|, so that they are ordered by high, then by low; sums on the way have more in low.
struct DoubleSingle {
    float high, low;

    DoubleSingle() = default;
    __host__ __device__ DoubleSingle(float high, float low = 0) : high(high), low(low) {}

    __host__ __device__ void add(DoubleSingle other) {
        const float sum = high + other.high, part = sum - high;
        const float rest = (high - (sum - part)) + (other.high - part);
        low = (low + other.low) + rest;
        high = sum;
    }

    __host__ __device__ void add_square(float a, float b) {
        const float difference = a - b, part = difference - a;
        const float rest = (a - (difference - part)) - (b + part);
        const float square = difference * difference, sum = high + square, square_part = sum - high;
        const float of_square = fmaf(difference + difference, rest, fmaf(difference, difference, -square));
        low += ((high - (sum - square_part)) + (square - square_part)) + of_square;
        high = sum;
    }

    __host__ __device__ DoubleSingle normalised() const {
        const float sum = high + low;
        return {sum, low - (sum - high)};
    }
};

// What two rows or two roundings must be apart.
struct DoubleSingleError {
    float relative;

    explicit DoubleSingleError(int d) {
        const double terms = (d + 31) / 32;
        relative = static_cast<float>(1.02 * (terms * terms / 2 + 16 * terms + 96) * 0x1p-48);
    }

    // Whether the exact sum is known to lie within the error.
    __host__ __device__ bool holds(DoubleSingle sum) const { return sum.high >= 0x1p-75f && sum.high <= 0x1p126f; }

    // Whether float64 may see them as equal, or in the other order: e (a + b) <= 3 e b where they are near each other.
    __host__ __device__ bool may_tie(DoubleSingle a, DoubleSingle b) const {
        return fabsf((b.high - a.high) + (b.low - a.low)) <= 4 * relative * b.high;
    }

    // The root of a sum that it holds for, rounded to float32; `unsure`: whether float64 may round to another.
    __host__ __device__ float root(DoubleSingle sum, bool& unsure) const {
        const float near = sqrtf(sum.high), rest = less_square(sum, near);
        const float gap = near * (near - float_of(bits_of(near) - 1));
        // Half a float is gap / 2 of the root and, but for u^2 of it, gap of its square.
        const float root = float_of(bits_of(near) + (rest > gap) - (rest < -gap));
        const float least_gap = root * (root - float_of(bits_of(root) - 1));  // to a power of two it is half as wide
        unsure = !(fabsf(less_square(sum, root)) + relative * sum.high < least_gap);
        return root;
    }

private:
    // Of a root that is next to the exact one: the square is exact, and so is the difference of both first parts.
    __host__ __device__ static float less_square(DoubleSingle sum, float root) {
        const float square = root * root;
        return (sum.high - square) + (sum.low - fmaf(root, root, -square));
    }
};

}  // namespace edgead::cuda
