// Two banded products of smoothing, one thread per output. The map between them is small and stays in the L2 cache.
//
// Precision: each output is one chain of `taps` multiply-adds in float32, in the order of the taps, as in
// csrc/smooth/smooth.h.
#include "band.cuh"
#include "launch.cuh"
#include "rounding.cuh"
#include "smoother.h"
#include "warp.cuh"

namespace edgead::cuda {
namespace {

constexpr int smooth_threads = 256;

// Unsigned integers in the order of the floats they stand for; 0 is below all of them.
__device__ unsigned ordered_bits(float value) {
    const unsigned bits = bits_of(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ float from_ordered_bits(unsigned bits) { return float_of(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits); }

__global__ void __launch_bounds__(smooth_threads)
    rows_kernel(const float* input, int input_rows, Band band, float* middle, SmoothState* state) {
    const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * smooth_threads + threadIdx.x;
    const std::int64_t inputs = static_cast<std::int64_t>(input_rows) * band.inputs;
    // Every input is looked at by one thread, whether or not it has weight anywhere.
    for (std::int64_t i = number; i < inputs; i += static_cast<std::int64_t>(gridDim.x) * smooth_threads)
        if (!is_finite(input[i])) state->not_finite = 1;
    if (number >= static_cast<std::int64_t>(input_rows) * band.outputs) return;
    const int row = static_cast<int>(number / band.outputs), column = static_cast<int>(number % band.outputs);
    const std::int64_t first = static_cast<std::int64_t>(row) * band.inputs + band.first[column];
    const int taps = taps_inside(band, column);
    float sum = 0;
    for (int tap = 0; tap < taps; ++tap)
        sum = fmaf(band.weights[static_cast<std::int64_t>(tap) * band.outputs + column], input[first + tap], sum);
    middle[number] = sum;
}

__global__ void __launch_bounds__(smooth_threads)
    columns_kernel(const float* middle, int width, Band band, float* output, float* maximum, SmoothState* state) {
    const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * smooth_threads + threadIdx.x;
    float largest = float_of(0xff800000u);
    if (number < static_cast<std::int64_t>(band.outputs) * width) {
        const int row = static_cast<int>(number / width), column = static_cast<int>(number % width);
        const float* source = middle + static_cast<std::int64_t>(band.first[row]) * width + column;
        const float* weights = band.weights + static_cast<std::int64_t>(row) * band.taps;
        const int taps = taps_inside(band, row);
        float sum = 0;
        for (int tap = 0; tap < taps; ++tap)
            sum = fmaf(weights[tap], source[static_cast<std::int64_t>(tap) * width], sum);
        output[number] = sum;
        largest = sum;
    }
    __shared__ float of_warp[smooth_threads / 32];
    largest = warp_max(largest);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = largest;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < smooth_threads / 32; ++warp) largest = fmaxf(largest, of_warp[warp]);
    atomicMax(&state->largest, ordered_bits(largest));
    __threadfence();  // the block that counts last sees the maxima of all
    if (atomicAdd(&state->blocks, 1u) != gridDim.x - 1) return;
    const unsigned all = atomicMax(&state->largest, 0u);
    *maximum = state->not_finite ? float_of(0x7fc00000u) : from_ordered_bits(all);
}

std::int64_t blocks_for(std::int64_t threads) { return (threads + smooth_threads - 1) / smooth_threads; }

}  // namespace

void smooth_rows(const float* input, int input_rows, const Band& horizontal, float* middle, SmoothState* state,
                 cudaStream_t stream) {
    launch(rows_kernel,
           {blocks_for(static_cast<std::int64_t>(input_rows) * horizontal.outputs), smooth_threads, stream}, input,
           input_rows, horizontal, middle, state);
}

void smooth_columns(const float* middle, int width, const Band& vertical, float* output, float* maximum,
                    SmoothState* state, cudaStream_t stream) {
    launch(columns_kernel, {blocks_for(static_cast<std::int64_t>(vertical.outputs) * width), smooth_threads, stream},
           middle, width, vertical, output, maximum, state);
}

void load_smooth_kernels() {
    load(rows_kernel);
    load(columns_kernel);
}

}  // namespace edgead::cuda
