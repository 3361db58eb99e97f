// Rows to 8-bit codes: one warp per row, which lies in shared memory while it is turned. A lane has the same numbers of
// it all the time.
#include "codes.h"
#include "launch.cuh"
#include "turn.cuh"
#include "warp.cuh"

namespace edgead::cuda {
namespace {

constexpr int code_threads = 128, rows_per_block = code_threads / warp_lanes;
constexpr float magic = 12582912;  // 1.5 2^23: a number that is added to it is rounded to a whole one

__device__ void write_zeros(const CodedRows& out, std::int64_t row, int depth, Extent extent) {
    const int lane = threadIdx.x % warp_lanes;
    for (int i = lane; i < depth; i += warp_lanes) out.codes[row * depth + i] = 0;
    if (lane != 0) return;
    out.step[row] = {1, 1};
    out.half_norm[row] = padding_half_norm;
    out.extent[row] = extent;
}

// `mine` has the lane's numbers of the row, in the frame times 2^exponent; `least` is a step in the frame.
__device__ void write_row(const CodedRows& out, std::int64_t row, int d, int depth, const Turn& turn, float* mine,
                          int exponent, const Step* given, float least) {
    const int lane = threadIdx.x % warp_lanes;
    const float factor = power_of_two(exponent), weight = power_of_two(-exponent);
    float squares = 0, peak = 0, residual_squares = 0;
    for (int j = 0; j < turn.chunks; ++j) squares = fmaf(mine[j * warp_lanes], mine[j * warp_lanes], squares);
    squares = warp_sum(squares);
    turn_row(turn, mine);
    for (int j = 0; j < turn.chunks; ++j) peak = fmaxf(peak, fabsf(mine[j * warp_lanes]));
    const float own = fmaxf(warp_max(peak) * (1 / 127.0f), fmaxf(least, smallest_step) * factor);
    const float step = given ? given->size * factor : own, inverse = 1 / step;
    for (int j = 0; j < depth / warp_lanes; ++j) {
        const float value = j < turn.chunks ? mine[j * warp_lanes] : 0.0f;
        const float code = value * inverse + magic - magic;  // 127 at most, as no step is smaller than the row's own
        const float rest = fmaf(-code, step, value);
        out.codes[row * depth + j * warp_lanes + lane] = static_cast<std::int8_t>(code);
        residual_squares = fmaf(rest, rest, residual_squares);
    }
    residual_squares = warp_sum(residual_squares);
    if (lane != 0) return;
    const float length = sqrtf(squares), rest = sqrtf(residual_squares), room = 1 + sum_room(d);
    out.step[row] = {step * weight, inverse * factor};
    out.half_norm[row] = 0.5f * squares * weight * weight;
    const float spare = spare_steps * step;
    out.extent[row] = {weight * ((length + rest + spare) * room + 0x1p-60f),
                       weight * ((rest + spare) * room + 0x1p-60f)};
}

__global__ void __launch_bounds__(code_threads)
    codes_prepare_kernel(Rows rows, std::int64_t padded, int depth, Frame frame, Turn turn, const Step* group_steps,
                         const float* least_step, CodedRows out, unsigned* bad_row, unsigned first_row) {
    __shared__ float turned[rows_per_block][most_turned];
    const int lane = threadIdx.x % warp_lanes;
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * rows_per_block + threadIdx.x / warp_lanes;
    if (row >= padded) return;
    if (row >= rows.count) {
        write_zeros(out, row, depth, {0, 0});
        return;
    }
    const float* source = rows.data + row * rows.d;
    float* mine = turned[threadIdx.x / warp_lanes] + lane;
    float peak = 0, not_finite = 0;
    for (int j = 0; j < turn.chunks; ++j) {
        const int i = j * warp_lanes + lane;
        const float value = i < rows.d ? source[i] : 0.0f;
        not_finite = is_finite(value) ? not_finite : 1.0f;
        mine[j * warp_lanes] = i < rows.d ? centred(value, frame.centre[i], frame.scale) : 0.0f;
        peak = fmaxf(peak, fabsf(mine[j * warp_lanes]));
    }
    peak = warp_max(peak);
    if (warp_max(not_finite) != 0) {
        if (lane == 0 && bad_row) atomicMin(bad_row, first_row + static_cast<unsigned>(row));
        write_zeros(out, row, depth, {float_of(0x7fc00000u), 0});
    } else if (!(peak < largest_component)) {
        write_zeros(out, row, depth, {float_of(0x7f800000u), 0});
    } else {
        const int exponent = row_exponent(peak);
        for (int j = 0; j < turn.chunks; ++j) mine[j * warp_lanes] *= power_of_two(exponent);
        write_row(out, row, rows.d, depth, turn, mine, exponent, group_steps ? group_steps + row_group(row) : nullptr,
                  least_step ? *least_step : 0);
    }
}

__global__ void steps_kernel(CodedRows rows, std::int64_t count, int groups, Step* steps, float* least_step) {
    const int group = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (group >= groups) return;
    float step = 0, inverse = 0, half_norm = 0;
    for (int slot = 0; slot < group_rows; ++slot) {
        const int row = group_row(group, slot);
        if (row >= count) continue;
        const Step own = rows.step[row];
        if (own.size > step) step = own.size, inverse = own.inverse;
        half_norm = fmaxf(half_norm, rows.half_norm[row]);
    }
    steps[group] = step > 0 ? Step{step, inverse} : Step{padding_step, 1 / padding_step};
    // Of positive numbers, the larger one has the larger bits. A tenth of the range stays free.
    atomicMax(reinterpret_cast<unsigned*>(least_step), bits_of(half_norm * inverse * (1.1f / most_start)));
}

}  // namespace

void code_rows(const Rows& rows, std::int64_t padded, int depth, const Frame& frame, const Step* group_steps,
               const float* least_step, const CodedRows& coded, unsigned* bad_row, unsigned first_row,
               cudaStream_t stream) {
    launch(codes_prepare_kernel, {(padded + rows_per_block - 1) / rows_per_block, code_threads, stream}, rows, padded,
           depth, frame, Turn(rows.d), group_steps, least_step, coded, bad_row, first_row);
}

void group_steps(const CodedRows& rows, std::int64_t count, int groups, Step* steps, float* least_step,
                 cudaStream_t stream) {
    launch(steps_kernel, {(groups + 255) / 256, 256, stream}, rows, count, groups, steps, least_step);
}

}  // namespace edgead::cuda
