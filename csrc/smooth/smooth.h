// Smoothing of maps: resize and Gaussian in one as two narrow bands, or the Gaussian alone as one symmetric filter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shared/band_matrix.h"
#include "smooth/smooth_kernels.h"

namespace edgead {

class Smoother {
public:
    Smoother(const BandMatrix& vertical, const BandMatrix& horizontal, const SmoothKernels& kernels);

    int input_height() const { return input_height_; }
    int input_width() const { return input_width_; }
    int height() const { return height_; }
    int width() const { return width_; }

    // input (input_height, input_width) -> output (height, width) elsewhere in memory, and its largest value.
    // Returns false, with the output meaningless, if the input holds NaN or Inf.
    // May be called from several threads at once.
    bool apply(const float* input, float* output, float* largest) const;

private:
    class Blocks {
    public:
        Blocks(const BandMatrix& matrix, int block);
        const BandBlock* data() const { return blocks_.data(); }
        int count() const { return static_cast<int>(blocks_.size()); }

    private:
        std::vector<float> weights_;
        std::vector<BandBlock> blocks_;
    };

    const SmoothKernels& kernels_;
    int input_height_, input_width_, height_, width_;
    Blocks vertical_, horizontal_;
};

// A symmetric filter along both axes of a map that keeps its size.
class Blur {
public:
    // weights: radius + 1 of them, from the outermost to the middle one; radius is a multiple of blur_taps.
    // rows, columns: for a line of the map with its borders, size + 2 radius, the line of the map that it equals.
    // Throws std::invalid_argument if a length or a number does not fit, or a side of the map is below min_size.
    Blur(std::vector<float> weights, const std::vector<std::int32_t>& rows, std::vector<std::int32_t> columns,
         const SmoothKernels& kernels);
    Blur(const Blur&) = delete;  // filter_ points into the vectors

    static constexpr int min_size = 16;  // a vector of the widest level

    int input_height() const { return height_; }
    int input_width() const { return filter_.width; }
    int height() const { return height_; }
    int width() const { return filter_.width; }

    // As Smoother::apply. Also false if sums of inputs beyond 2^126 left float32's range.
    bool apply(const float* input, float* output, float* largest) const;

private:
    const SmoothKernels& kernels_;
    int height_;
    std::vector<float> weights_;
    std::vector<std::ptrdiff_t> rows_;
    std::vector<std::int32_t> columns_;
    BlurFilter filter_;
};

}  // namespace edgead
