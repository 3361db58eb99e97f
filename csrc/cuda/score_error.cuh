// Error bound of a score of the product kernel, with its proof.
//
// In the frame of rounding.cuh, q and b are an exact query and row, t their float32 (centred()), and their halves times
// the row's weight are q^ and b^, exact numbers. The score is  S(q, b) = |b|^2 / 2 - q.b = (|q - b|^2 - |q|^2) / 2,
// which orders the rows as the distance does. With u = 2^-24:
//   q.b - q^.b^ = (q - q^).b + q^.(b - b^)   at most  residual(q) norm(b) + norm(q) residual(b)       (Cauchy-Schwarz)
//   q^.b^ - |b|^2 / 2 in the tensor core     at most  4 d u (norm(q) norm(b) + norm(b)^2 / 2)
//       The sum starts at -|b|^2 / 2. A product of halves is exact in float32. What PTX promises is accumulation "with
//       at least single precision", in any order and rounding. What is known of the hardware (Fasi et al., "Numerical
//       behavior of NVIDIA tensor cores", 2021; Khattak and Mikaitis, "Accurate models of NVIDIA tensor cores", 2025)
//       is addition of K products and the accumulator, aligned to the largest and cut to 24 digits or more, the sum cut
//       once again. Every addend and every partial sum is at most M = norm(q) norm(b) + norm(b)^2 / 2, so each cut
//       costs at most 2 u M; with K + 1 cuts for K products (the largest is not cut) the sum is (1 + 1/K) 2 d u M.
//       K = 1 is the worst, and covers a chain of additions that round towards zero.
//   half_norm(b)                             at most  (room / 2 + 1.5 u) norm(b)^2
//       The squares of t are summed by 32 lanes, d / 32 + 5 additions deep; t differs from b by u.
//   the sum times -w                         exact: a power of two
//   a slot's number in the last 4 digits     at most  15 * 2 u |score|
//   score + error and score - error          at most  u (|score| + error)
// with |score| <= norm(b)^2 / 2 + norm(q) norm(b), each factor below with room to spare for second-order terms.
//
// Rows are then measured as float64 would, with a relative error of at most tie / 2 for the square, so that a row may
// win, or tie, whose exact square is larger by a factor 1 + tie: tie (norm(q)^2 + norm(b)^2), no less than half of that
// excess, is added, and the outcome is that of measuring every row. 2^-100 covers underflow.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "layout.cuh"

namespace edgead::cuda {

// Bounds of a row, each rounded up: of |b| and |b^|, and of |b - b^|. Aligned, so that one instruction loads both.
struct alignas(8) Extent {
    float norm, residual;
};

// Relative error of a sum of squares over a row, lane by lane, with room for the few operations that follow.
__host__ __device__ inline float sum_room(int d) { return 1.01f * (static_cast<float>(d) / 32 + 16) * 0x1p-24f; }

// From the sums of squares of a row times 2^e, of which the halves are, and of what rounding took from it. weight is
// 2^-e. 2^-60 is far above what underflow can take from a root: sqrt(d 2^-149) and sqrt(d) 2^-149 2^60, for d up to
// 2^20.
__host__ __device__ inline Extent row_extent(float squares, float residual_squares, float weight, float room) {
    const float length = sqrtf(squares), rest = sqrtf(residual_squares);
    return {weight * ((length + rest) * (1 + room) + 0x1p-60f),
            weight * ((rest + length * 0x1p-24f) * (1 + room) + 0x1p-60f)};
}

struct ScoreError {
    float product, square, tie;

    explicit ScoreError(int d)
        : product(static_cast<float>(1.01 * (4.0 * (d + 1) + 2 * group_rows + 4) * 0x1p-24)),
          square(static_cast<float>(1.01 * (0.5 * sum_room(d) + (2.0 * (d + 1) + group_rows + 4) * 0x1p-24))),
          tie(static_cast<float>(1.01 * (d / 32.0 + 16) * 0x1p-52)) {}

    // Bound for every row whose norm and residual are at most those of `rows`.
    __host__ __device__ float bound(Extent query, Extent rows) const {
        const float products = fmaf(fmaf(product, query.norm, query.residual), rows.norm, query.norm * rows.residual);
        const float squares = fmaf(square + tie, rows.norm * rows.norm, tie * (query.norm * query.norm));
        return (products + (squares + 0x1p-100f)) * (1 + 0x1p-18f);  // seven roundings of positive terms
    }
};

}  // namespace edgead::cuda
