// Kernels of the nearest search that each ISA level provides.
#pragma once

#include <cstddef>

namespace edgead {

struct NearestKernels {
    int tile_queries;  // MR, at most 32
    int panel_rows;    // NR

    // Scores one tile of queries against one panel of bank rows.
    //   queries    [d][MR], panel [d][NR] (64-byte aligned), half_norms [NR] = |b|^2 / 2, thresholds [MR]
    //   scores     [MR][NR]: half_norms[b] - q.b, written for the queries of the returned mask only
    // Returns a bit for each query that has a score at or below its threshold.
    // Precision: the product is one chain of d multiply-adds in float32 from zero, then one subtraction.
    unsigned (*score_tile)(const float* queries, const float* panel, std::size_t d, const float* half_norms,
                           const float* thresholds, float* scores);

    // Sum of (a - b)^2 in float64.
    // Precision: relative error at most (d + 3) 2^-53, as every term is positive.
    double (*squared_distance)(const float* a, const float* b, std::size_t d);

    // target = (row - mean) * scale, computed in float64; returns the sum of its squares before they are rounded.
    double (*centre)(const float* row, const double* mean, double scale, std::size_t d, float* target);
};

}  // namespace edgead
