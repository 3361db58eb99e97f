// Rows as 8-bit codes, for products of whole numbers: turned (turn.cuh), divided by a step, and rounded.
//
// A query has a step of its own, the rows of a group of the bank (layout.cuh) have one together: all the sums that a
// lane compares for one query are in one unit then, the product of both steps. With the frame of rounding.cuh, the
// scale 2^e of a row, q and b exact, R the rotation, c the codes, s the steps and u = 2^-24:
//   S(q, b) = |b|^2 / 2 - q.b, as in score_error.cuh, and  q.b = R q . R b, which s_q s_b (c_q . c_b) stands for
//   q.b - s_q s_b (c_q . c_b)                at most  residual(q) norm(b) + norm(q) residual(b)       (Cauchy-Schwarz)
//       with residual  |R q - s c| <= |y - s c| + 25 u |q|,  y what the kernel made of R q (turn.cuh), and norm at
//       least |q| and |s c|. As no number of y is above 127 s, |q| is below 5,000 s, and 25 u |q| below 0.0075 s.
//   c_q . c_b                                exact, below 2^25: 127^2 most_turned
//   the sum's start, -|b|^2 / (2 s_q s_b)    at most  s_q s_b / 2 + 1.5 u norm(b)^2
//       Rounded once, to a whole number below 2^22, from 1 / s_q and 1 / s_b, each rounded, and their product. A
//       query's step is never so small that it is more (group_steps). The largest norm of a group is 126 s_b at least,
//       so that residual(q) norm(b) has s_q s_b / 2 with 0.004 s_q more; but where s_b is smallest_step, and all of
//       |b|^2 / 2 below the 2^-100 of ScoreError.
//   half_norm(b)                             at most  (room / 2 + 1.5 u) norm(b)^2
//   the sum as a float, times s_q s_b        at most  3 u |score|
//   a slot's number in the last 4 digits     at most  15 * 2 u |score|
//   score + error and score - error          at most  u (|score| + error)
// with |score| <= norm(b)^2 / 2 + norm(q) norm(b). spare_steps has the 0.0075 and the 0.004, a five-hundredth of what
// rounding costs a usual row.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "layout.cuh"
#include "nearest_kernels.h"

namespace edgead::cuda {

struct alignas(8) Step {
    float size, inverse;
};

// `padded` is as in PreparedRows; `depth` is d rounded up to whole tiles of codes, filled with zeros.
struct CodedRows {
    std::int8_t* codes;  // (padded, depth)
    Step* step;          // (padded) of the row, in the frame; 1 of one that takes no part
    float* half_norm;    // (padded) |b|^2 / 2
    Extent* extent;      // (padded) as in PreparedRows
};

constexpr int most_turned = 1536;  // dimensions: see turn.cuh
constexpr int tile_codes = row_chunks * chunk_bytes, most_start = 1 << 22;
// In the frame. The product of two steps and its inverse are normal numbers. A group of padding alone has a step that
// is larger than any other, as components of a bank are below 4 there: 4 sqrt(most_turned) / 127.
constexpr float smallest_step = 0x1p-62f, padding_step = 2, spare_steps = 0.012f;

// Each row gets a step of its own, but not below *least_step where that is not null; `group_steps`, where not null, has
// that of each group of rows instead. bad_row: as in prepare_rows.
void code_rows(const Rows& rows, std::int64_t padded, int depth, const Frame& frame, const Step* group_steps,
               const float* least_step, const CodedRows& coded, unsigned* bad_row, unsigned first_row,
               cudaStream_t stream);

// From what code_rows wrote of `count` rows of a bank: the largest step of each group, padding_step where there is
// none, and what a query's step must be at least, to which *least_step, 0 before, is raised.
void group_steps(const CodedRows& rows, std::int64_t count, int groups, Step* steps, float* least_step,
                 cudaStream_t stream);

// As group_minima; `steps` are those of the bank's groups.
void code_minima(const CodedRows& queries, std::int64_t padded_queries, const CodedRows& bank, std::int64_t padded_bank,
                 const Step* steps, int d, float2* minima, cudaStream_t stream);

inline ScoreError code_error(int d) {
    ScoreError error(d, group_rows);
    error.product = static_cast<float>(1.01 * 40 * 0x1p-24);
    error.square = static_cast<float>(1.01 * (0.5 * sum_room(d) + 26 * 0x1p-24));
    return error;
}

void load_code_products();

}  // namespace edgead::cuda
