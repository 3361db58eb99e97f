// Smoothing of maps: vertical operator x map x horizontal operator, both narrow bands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa.h"
#include "smooth.h"

namespace edgead {

// One axis as Python builds it: output i is weights[i][0..taps) times inputs first[i]... Inputs beyond the last have
// weight 0.
struct BandMatrix {
    const std::int32_t* first;
    const float* weights;
    int outputs, taps, inputs;
};

class Smoother {
public:
    Smoother(const BandMatrix& vertical, const BandMatrix& horizontal, Isa isa);

    int input_height() const { return input_height_; }
    int input_width() const { return input_width_; }
    int height() const { return height_; }
    int width() const { return width_; }

    // input (input_height, input_width) -> output (height, width) and its largest value.
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

}  // namespace edgead
