#include "smoother.h"

#include <cstddef>

namespace edgead::cuda {
namespace {

std::size_t floats(int rows, int columns) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns) * sizeof(float);
}

}  // namespace

Smoother::Smoother(const BandMatrix& vertical, const BandMatrix& horizontal)
    : device_(current_device()), vertical_(vertical, false), horizontal_(horizontal, true),
      middle_(floats(vertical.inputs, horizontal.outputs)), state_(sizeof(SmoothState)),
      input_(floats(vertical.inputs, horizontal.inputs)), output_(floats(vertical.outputs, horizontal.outputs)),
      maximum_(sizeof(float)) {
    load_smooth_kernels();
}

void Smoother::apply_device(const float* input, float* output, float* maximum, cudaStream_t stream) {
    const OnDevice guard(device_);
    const Turns::Turn turn(turns_, stream);
    auto* state = state_.as<SmoothState>();
    check(cudaMemsetAsync(state, 0, sizeof *state, stream), "clearing memory");
    smooth_rows(input, input_height(), horizontal_.get(), middle_.as<float>(), state, stream);
    smooth_columns(middle_.as<float>(), width(), vertical_.get(), output, maximum, state, stream);
}

float Smoother::apply(const float* input, float* output) {
    const OnDevice guard(device_);
    const std::lock_guard<std::mutex> lock(host_mutex_);
    float maximum = 0;
    const WaitsAtEnd waits(stream_.get());
    copy_in(input_.data(), input, floats(input_height(), input_width()), stream_.get());
    apply_device(input_.as<float>(), output_.as<float>(), maximum_.as<float>(), stream_.get());
    copy_out(output, output_.data(), floats(height(), width()), stream_.get());
    copy_out(&maximum, maximum_.data(), sizeof maximum, stream_.get());
    wait(stream_.get());
    return maximum;
}

}  // namespace edgead::cuda
