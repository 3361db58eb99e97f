#include "smooth/smooth.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

#include "shared/aligned.h"
#include "shared/threads.h"

namespace edgead {
namespace {

// A part of at least this many multiply-adds (about 5 us) is worth another thread: waking one costs as much.
constexpr std::size_t part_work = std::size_t{1} << 18;

bool all_finite(const float* values, std::size_t count) {
    std::uint32_t found = 0;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        found |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return found == 0;
}

// Rows of the map that are blurred at a time: lower strips share more of their input, higher ones leave the cache.
constexpr int blur_rows = 64;

// The largest of what several threads found; NaN wins.
class Peak {
public:
    void raise(float found) {
        float value = value_.load();
        while (!(found <= value) && !std::isnan(value) && !value_.compare_exchange_weak(value, found)) {
        }
    }
    float value() const { return value_.load(); }

private:
    std::atomic<float> value_{-std::numeric_limits<float>::infinity()};
};

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

// Taps of output i up to the last that is not 0: those beyond the inputs are, and so are many others.
int used_taps(const BandMatrix& matrix, int i) {
    int taps = matrix.taps;
    while (taps > 0 && matrix.weights[static_cast<std::size_t>(i) * matrix.taps + taps - 1] == 0) --taps;
    return taps;
}

}  // namespace

// Blocks of consecutive outputs take the union of their inputs, which is only a little wider than one output's. A block
// equal to the one before it shares its weights: inside a Gaussian all blocks are equal, and one stays in the L1 cache.
Smoother::Blocks::Blocks(const BandMatrix& matrix, int block) {
    std::vector<std::size_t> offsets;
    for (int begin = 0; begin < matrix.outputs; begin += block) {
        const int end = std::min(begin + block, matrix.outputs);
        const int first = *std::min_element(matrix.first + begin, matrix.first + end);
        int last = first + 1;
        for (int i = begin; i < end; ++i) last = std::max(last, matrix.first[i] + used_taps(matrix, i));
        std::vector<float> weights(static_cast<std::size_t>(last - first) * block, 0.0f);
        for (int i = begin; i < end; ++i)
            for (int tap = 0; tap < used_taps(matrix, i); ++tap)
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

Smoother::Smoother(const BandMatrix& vertical, const BandMatrix& horizontal, const SmoothKernels& kernels)
    : kernels_(kernels), input_height_(vertical.inputs), input_width_(horizontal.inputs), height_(vertical.outputs),
      width_(horizontal.outputs), vertical_(vertical, kernels_.block_rows), horizontal_(horizontal, kernels_.lanes) {}

bool Smoother::apply(const float* input, float* output, float* largest) const {
    if (!all_finite(input, static_cast<std::size_t>(input_height_) * input_width_)) return false;
    const std::size_t stride = static_cast<std::size_t>(horizontal_.count()) * kernels_.lanes;
    const std::size_t work = stride * input_height_ * horizontal_.data()->count +
                             static_cast<std::size_t>(height_) * width_ * vertical_.data()->count;
    const std::int64_t parts = std::clamp<std::size_t>(work / part_work, 1, 2 * thread_count());
    const auto blocks_before = [&](std::int64_t part) { return static_cast<int>(vertical_.count() * part / parts); };
    Peak peak;
    // Each part smooths for itself the few input rows that it shares with its neighbours: one meeting of the threads.
    parallel_for(parts, [&](std::int64_t part) {
        const BandBlock* begin = vertical_.data() + blocks_before(part);
        const BandBlock* end = vertical_.data() + blocks_before(part + 1);
        if (begin == end) return;
        int first = input_height_, last = 0;
        for (const BandBlock* block = begin; block < end; ++block) {
            first = std::min(first, block->first);
            last = std::max(last, block->first + block->count);
        }
        float* middle = scratch(stride * input_height_);
        kernels_.horizontal(input, input_width_, horizontal_.data(), horizontal_.count(), first, last, middle);
        peak.raise(kernels_.vertical(middle, stride, vertical_.data(), blocks_before(part) * kernels_.block_rows,
                                     std::min(height_, blocks_before(part + 1) * kernels_.block_rows), width_, output));
    });
    *largest = peak.value();
    return true;
}

Blur::Blur(std::vector<float> weights, const std::vector<std::int32_t>& rows, std::vector<std::int32_t> columns,
           const SmoothKernels& kernels)
    : kernels_(kernels), weights_(std::move(weights)), columns_(std::move(columns)) {
    const int radius = static_cast<int>(weights_.size()) - 1;
    height_ = static_cast<int>(rows.size()) - 2 * radius;
    const int width = static_cast<int>(columns_.size()) - 2 * radius;
    const auto within = [](const std::vector<std::int32_t>& lines, int size) {
        return std::all_of(lines.begin(), lines.end(), [=](int line) { return 0 <= line && line < size; });
    };
    if (radius < 0 || radius % blur_taps != 0 || std::min(height_, width) < min_size || !within(rows, height_) ||
        !within(columns_, width))
        throw std::invalid_argument("the weights, rows and columns do not fit each other");
    for (std::int32_t row : rows) rows_.push_back(static_cast<std::ptrdiff_t>(row) * width);
    filter_ = {radius, width, weights_.data(), rows_.data(), columns_.data()};
}

bool Blur::apply(const float* input, float* output, float* largest) const {
    const std::size_t work = static_cast<std::size_t>(height_) * filter_.width * 2 * weights_.size();
    const int threads = std::clamp<std::size_t>(work / part_work, 1, thread_count());
    // Strips of about blur_rows rows, as many for each thread, in whole units but for the last.
    const int units = height_ / min_size, wanted = (height_ + blur_rows - 1) / blur_rows;
    const int parts = std::min(units, (wanted + threads - 1) / threads * threads);
    const auto first_row = [=](std::int64_t part) { return static_cast<int>(units * part / parts) * min_size; };
    const std::size_t most = (units / parts + 2) * min_size, borders = 2 * static_cast<std::size_t>(filter_.radius);
    const std::size_t scratch_size = blur_columns * (most + borders) + most * (filter_.width + borders);
    Peak peak;
    parallel_for(parts, [&](std::int64_t part) {
        peak.raise(kernels_.blur(input, filter_, first_row(part), part + 1 == parts ? height_ : first_row(part + 1),
                                 scratch(scratch_size), output));
    });
    *largest = peak.value();
    return !std::isnan(*largest);
}

}  // namespace edgead
