// Resizing of images on the GPU, bit for bit as on the host: the arithmetic of csrc/resize and of OpenCV, in bands that
// Python (edgead/kernels/resize_bands.py) builds.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "band.h"

namespace edgead::cuda {

constexpr int image_channels = 3;

// How the sums of an output pixel are made and rounded; bands of `linear` are of a source with doubled outermost lines.
enum class Sums { shrink, blocks, area, linear };

// Where in the target the result lies, from where it is filled up by reflection; `reversed`: BGR becomes RGB.
struct Placing {
    int height, width;  // of the target
    int top, left;
    bool reversed;
};

// What the sums of `shrink` and of `blocks` are divided by, and its inverse.
struct Divisor {
    std::uint64_t units;
    float share;
};

// source: (vertical.inputs, horizontal.inputs, 3), without doubled lines; target: (height, width, 3).
void resize(Sums sums, const std::uint8_t* source, const Band& vertical, const Band& horizontal, const Divisor& divisor,
            std::uint8_t* target, const Placing& placing, cudaStream_t stream);

// See load_smooth_kernels.
void load_resize_kernels();

struct ResizeStep {
    Sums sums;
    BandMatrix vertical, horizontal;
};

class Resizer {
public:
    // One step or more. The result of the last lies at (top, left) of the target.
    Resizer(const std::vector<ResizeStep>& steps, int height, int width, int top, int left);

    // BGR of the first step's inputs becomes RGB (height, width), on device pointers, in order in `stream`, without
    // waiting. Calls in different streams take turns.
    void apply_device(const std::uint8_t* source, std::uint8_t* target, cudaStream_t stream);

private:
    struct Step {
        Step(const ResizeStep& step, const Placing& placing);
        Sums sums;
        BandMemory vertical, horizontal;
        Divisor divisor;
        Placing placing;
        DeviceMemory result;  // none of the last
    };

    int device_;
    std::vector<std::unique_ptr<Step>> steps_;
    Turns turns_;  // guards the results; the last, so that it waits before any memory goes
};

}  // namespace edgead::cuda
