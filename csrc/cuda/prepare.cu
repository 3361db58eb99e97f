// Conversion of rows to half precision, norms and residuals: one warp per row, in two sweeps; the second reads the row
// from the cache. float32 throughout, as float64 runs at 1/32 to 1/64 of its speed on edge GPUs and the residual is
// exact without it (a float minus its rounding to 11 binary digits is a float).
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"
#include "warp.cuh"

namespace edgead::cuda {
namespace {

constexpr int prepare_threads = 256, prepare_rows_per_block = prepare_threads / warp_lanes;

// A row that takes no part: zeros.
__device__ void write_zeros(const PreparedRows& out, std::int64_t row, int depth, Extent extent) {
    const int lane = threadIdx.x % warp_lanes;
    for (int i = lane; i < depth; i += warp_lanes) out.halves[row * depth + i] = 0;
    if (lane != 0) return;
    out.weight[row] = 1;
    out.half_norm[row] = padding_half_norm;
    out.extent[row] = extent;
}

__device__ void write_row(const PreparedRows& out, std::int64_t row, const float* source, int d, int depth,
                          const Frame& frame, int exponent, float room) {
    const int lane = threadIdx.x % warp_lanes;
    const float factor = power_of_two(exponent), weight = power_of_two(-exponent);
    float squares = 0, residual_squares = 0;
    for (int i = lane; i < depth; i += warp_lanes) {
        const float value = i < d ? centred(source[i], frame.centre[i], frame.scale) * factor : 0.0f;
        const Half half = to_half(value);
        const float residual = value - half.value;
        out.halves[row * depth + i] = half.bits;
        squares = fmaf(value, value, squares);
        residual_squares = fmaf(residual, residual, residual_squares);
    }
    squares = warp_sum(squares);
    residual_squares = warp_sum(residual_squares);
    if (lane != 0) return;
    out.weight[row] = weight;
    out.half_norm[row] = 0.5f * squares * weight * weight;
    out.extent[row] = row_extent(squares, residual_squares, weight, room);
}

__global__ void __launch_bounds__(prepare_threads)
    prepare_kernel(Rows rows, std::int64_t padded, int depth, Frame frame, int exponent, PreparedRows out,
                   unsigned* bad_row, unsigned first_row) {
    const int lane = threadIdx.x % warp_lanes;
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * prepare_rows_per_block + threadIdx.x / warp_lanes;
    if (row >= padded) return;
    if (row >= rows.count) {
        write_zeros(out, row, depth, {0, 0});
        return;
    }
    const float* source = rows.data + row * rows.d;
    float peak = 0, not_finite = 0;
    for (int i = lane; i < rows.d; i += warp_lanes) {
        not_finite = is_finite(source[i]) ? not_finite : 1.0f;
        peak = fmaxf(peak, fabsf(centred(source[i], frame.centre[i], frame.scale)));
    }
    peak = warp_max(peak);
    if (warp_max(not_finite) != 0) {
        if (lane == 0 && bad_row) atomicMin(bad_row, first_row + static_cast<unsigned>(row));
        write_zeros(out, row, depth, {float_of(0x7fc00000u), 0});
    } else if (!(peak < largest_component)) {
        write_zeros(out, row, depth, {float_of(0x7f800000u), 0});
    } else {
        if (exponent == own_exponent) exponent = row_exponent(peak);
        write_row(out, row, source, rows.d, depth, frame, exponent, sum_room(rows.d));
    }
}

__global__ void extents_kernel(const Extent* rows, std::int64_t padded, Extent* groups) {
    const std::int64_t group = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (group >= group_count(padded)) return;
    Extent largest{0, 0};
    for (int slot = 0; slot < group_rows; ++slot) {
        const Extent extent = rows[group_row(static_cast<int>(group), slot)];
        largest = {fmaxf(largest.norm, extent.norm), fmaxf(largest.residual, extent.residual)};
    }
    groups[group] = largest;
}

}  // namespace

void prepare_rows(const Rows& rows, std::int64_t padded, int depth, const Frame& frame, int exponent,
                  const PreparedRows& prepared, unsigned* bad_row, unsigned first_row, cudaStream_t stream) {
    launch(prepare_kernel, {(padded + prepare_rows_per_block - 1) / prepare_rows_per_block, prepare_threads, stream},
           rows, padded, depth, frame, exponent, prepared, bad_row, first_row);
}

void group_extents(const Extent* rows, std::int64_t padded, Extent* groups, cudaStream_t stream) {
    launch(extents_kernel, {(group_count(padded) + 255) / 256, 256, stream}, rows, padded, groups);
}

}  // namespace edgead::cuda
