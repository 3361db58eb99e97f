// Smoothing of maps on the GPU: vertical operator x map x horizontal operator, both narrow bands, and the maximum.
#pragma once

#include <cstdint>
#include <mutex>

#include "band.h"

namespace edgead::cuda {

// What blocks exchange: zeros at the start.
struct SmoothState {
    unsigned largest;     // as ordered_bits
    unsigned not_finite;  // 1 if an input was NaN or Inf
    unsigned blocks;      // that are done
};

// middle (input rows, W) = input (input rows, input columns) x horizontal; sets state.not_finite, of the input.
void smooth_rows(const float* input, int input_rows, const Band& horizontal, float* middle, SmoothState* state,
                 cudaStream_t stream);

// output (H, W) = vertical x middle (input rows, W); *maximum is its largest value, or NaN if state.not_finite.
void smooth_columns(const float* middle, int width, const Band& vertical, float* output, float* maximum,
                    SmoothState* state, cudaStream_t stream);

// Loads what a first launch would: nothing can be loaded while a graph is captured.
void load_smooth_kernels();

class Smoother {
public:
    Smoother(const BandMatrix& vertical, const BandMatrix& horizontal);

    int input_height() const { return vertical_.get().inputs; }
    int input_width() const { return horizontal_.get().inputs; }
    int height() const { return vertical_.get().outputs; }
    int width() const { return horizontal_.get().outputs; }

    // On device pointers, in order in `stream`, without waiting: input (input_height, input_width) -> output (height,
    // width) and *maximum, its largest value, or NaN if the input holds NaN or Inf. Calls in different streams take
    // turns.
    void apply_device(const float* input, float* output, float* maximum, cudaStream_t stream);

    // On host memory. Returns the maximum, NaN if the input holds NaN or Inf. May be called from several threads at
    // once.
    float apply(const float* input, float* output);

private:
    int device_;
    Stream stream_;  // of calls on host memory
    BandMemory vertical_, horizontal_;

    DeviceMemory middle_, state_;

    std::mutex host_mutex_;  // guards the copies of host memory
    DeviceMemory input_, output_, maximum_;

    Turns turns_;  // guards middle_ and state_; the last, so that it waits before any memory goes
};

}  // namespace edgead::cuda
