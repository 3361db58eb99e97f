#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "panels.h"
#include "smoother.h"
#include "threads.h"

namespace edgead {
namespace {

// Work for one thread below this many multiply-adds (a few tens of microseconds) is done by the caller alone: waking a
// worker costs as much.
constexpr std::size_t serial_work = std::size_t{1} << 20;

const SmoothKernels& smooth_kernels(Isa isa) {
    switch (float_level(isa)) {
#if defined(__x86_64__)
        case Isa::avx512: return smooth_avx512;
        case Isa::avx2: return smooth_avx2;
#elif defined(__aarch64__)
        case Isa::neon: return smooth_neon;
#endif
        default: return smooth_baseline;
    }
}

bool all_finite(const float* values, std::size_t count) {
    std::uint32_t found = 0;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        found |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return found == 0;
}

// The intermediate map of one thread, kept between frames.
float* scratch(std::size_t count) {
    static thread_local AlignedFloats memory;
    static thread_local std::size_t size = 0;
    if (size < count) {
        memory = allocate_floats(count);
        size = count;
    }
    return memory.get();
}

}  // namespace

// Blocks of consecutive outputs take the union of their inputs, which is only a little wider than one output's. A block
// equal to the one before it shares its weights: inside a Gaussian all blocks are equal, and one stays in the L1 cache.
Smoother::Blocks::Blocks(const BandMatrix& matrix, int block) {
    std::vector<std::size_t> offsets;
    for (int begin = 0; begin < matrix.outputs; begin += block) {
        const int end = std::min(begin + block, matrix.outputs);
        const int first = *std::min_element(matrix.first + begin, matrix.first + end);
        int last = *std::max_element(matrix.first + begin, matrix.first + end) + matrix.taps;
        last = std::min(last, matrix.inputs);
        std::vector<float> weights(static_cast<std::size_t>(last - first) * block, 0.0f);
        for (int i = begin; i < end; ++i)
            for (int tap = 0; tap < std::min(matrix.taps, last - matrix.first[i]); ++tap)
                weights[(matrix.first[i] - first + tap) * block + (i - begin)] =
                    matrix.weights[static_cast<std::size_t>(i) * matrix.taps + tap];
        const bool repeats = !blocks_.empty() && blocks_.back().count == last - first &&
                             std::equal(weights.begin(), weights.end(), weights_.begin() + offsets.back());
        offsets.push_back(repeats ? offsets.back() : weights_.size());
        if (!repeats) weights_.insert(weights_.end(), weights.begin(), weights.end());
        blocks_.push_back({first, last - first, nullptr});
    }
    for (std::size_t b = 0; b < blocks_.size(); ++b) blocks_[b].weights = weights_.data() + offsets[b];
}

Smoother::Smoother(const BandMatrix& vertical, const BandMatrix& horizontal, Isa isa)
    : kernels_(smooth_kernels(isa)), input_height_(vertical.inputs), input_width_(horizontal.inputs),
      height_(vertical.outputs), width_(horizontal.outputs), vertical_(vertical, kernels_.block_rows),
      horizontal_(horizontal, kernels_.lanes) {}

bool Smoother::apply(const float* input, float* output, float* largest) const {
    const std::size_t stride = static_cast<std::size_t>(horizontal_.count()) * kernels_.lanes;
    float* middle = scratch(stride * input_height_);
    const std::size_t work = stride * input_height_ * horizontal_.data()->count +
                             static_cast<std::size_t>(height_) * width_ * vertical_.data()->count;
    const int parts = static_cast<int>(std::clamp<std::size_t>(work / (serial_work / 2), 1, 2 * thread_count()));

    std::atomic<bool> finite{true};
    const auto rows_of = [&](int rows, int unit, std::int64_t part) {
        const int step = (rows + parts * unit - 1) / (parts * unit) * unit;
        return std::pair<int, int>(std::min<std::int64_t>(rows, part * step), std::min<std::int64_t>(rows, (part + 1) * step));
    };
    parallel_for(parts, [&](std::int64_t part) {
        const auto [begin, end] = rows_of(input_height_, 1, part);
        const std::size_t offset = static_cast<std::size_t>(begin) * input_width_;
        if (!all_finite(input + offset, static_cast<std::size_t>(end - begin) * input_width_)) finite = false;
        kernels_.horizontal(input, input_width_, horizontal_.data(), horizontal_.count(), begin, end, middle);
    });
    if (!finite) return false;
    std::vector<float> peaks(parts, -std::numeric_limits<float>::infinity());
    parallel_for(parts, [&](std::int64_t part) {
        const auto [begin, end] = rows_of(height_, kernels_.block_rows, part);
        if (begin < end)
            peaks[part] = kernels_.vertical(middle, stride, vertical_.data(), begin, end, width_, output);
    });
    *largest = *std::max_element(peaks.begin(), peaks.end());
    return true;
}

}  // namespace edgead
