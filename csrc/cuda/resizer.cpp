#include "resizer.h"

#include <cstddef>

namespace edgead::cuda {
namespace {

// The weights of one output; those of every other have the same sum.
std::uint64_t units_of(const BandMatrix& band) {
    std::uint64_t units = 0;
    for (int tap = 0; tap < band.taps; ++tap) units += static_cast<std::uint64_t>(band.weights[tap]);
    return units;
}

Divisor divisor_of(const ResizeStep& step) {
    const std::uint64_t units = units_of(step.vertical) * units_of(step.horizontal);
    return {units, static_cast<float>(1.0 / static_cast<double>(units))};
}

}  // namespace

Resizer::Step::Step(const ResizeStep& step, const Placing& placing)
    : sums(step.sums), vertical(step.vertical, false), horizontal(step.horizontal, true), divisor(divisor_of(step)),
      placing(placing) {}

Resizer::Resizer(const std::vector<ResizeStep>& steps, int height, int width, int top, int left)
    : device_(current_device()) {
    load_resize_kernels();
    for (const ResizeStep& step : steps) {
        const int rows = step.vertical.outputs, columns = step.horizontal.outputs;
        if (&step == &steps.back()) {
            steps_.push_back(std::make_unique<Step>(step, Placing{height, width, top, left, true}));
        } else {
            steps_.push_back(std::make_unique<Step>(step, Placing{rows, columns, 0, 0, false}));
            steps_.back()->result.grow(static_cast<std::size_t>(rows) * columns * image_channels);
        }
    }
}

void Resizer::apply_device(const std::uint8_t* source, std::uint8_t* target, cudaStream_t stream) {
    const OnDevice guard(device_);
    const Turns::Turn turn(turns_, stream);
    for (const auto& step : steps_) {
        auto* result = step == steps_.back() ? target : step->result.as<std::uint8_t>();
        resize(step->sums, source, step->vertical.get(), step->horizontal.get(), step->divisor, result, step->placing,
               stream);
        source = result;
    }
}

}  // namespace edgead::cuda
