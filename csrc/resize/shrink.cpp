#include "resize/shrink.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "shared/threads.h"

namespace edgead {
namespace {

// Rows of the output that one task makes: some hundred microseconds of work.
constexpr int rows_of_task = 8;

// One axis in units in which source and output cells have whole lengths.
struct Axis {
    std::uint32_t source, output;

    Axis(int inputs, int outputs)
        : source(static_cast<std::uint32_t>(outputs / std::gcd(inputs, outputs))),
          output(static_cast<std::uint32_t>(inputs / std::gcd(inputs, outputs))) {}
};

// The source cells that one output cell covers: a part of one, whole ones, a part of another.
struct Cover {
    int first, count;             // of the whole ones
    std::uint32_t before, after;  // units of the cell before them, and of that behind them

    Cover(const Axis& axis, int index) {
        const std::uint64_t begin = std::uint64_t{axis.output} * index, end = begin + axis.output;
        const std::uint64_t whole = (begin + axis.source - 1) / axis.source;
        first = static_cast<int>(whole);
        count = static_cast<int>(end / axis.source - whole);
        before = static_cast<std::uint32_t>(whole * axis.source - begin);
        after = static_cast<std::uint32_t>(end % axis.source);
    }
};

std::uint8_t rounded(std::uint64_t total, std::uint64_t units) {
    const std::uint64_t whole = total / units, twice = 2 * (total % units);
    return static_cast<std::uint8_t>(whole + (twice > units || (twice == units && whole % 2 != 0)));
}

void shrink_row(const std::uint32_t* total, const Axis& axis, const std::vector<Cover>& covers, std::uint64_t units,
                const ShrinkKernels& kernels, std::uint8_t* output) {
    for (const Cover& cover : covers) {
        const std::uint32_t* source = total + std::ptrdiff_t{cover.first} * shrink_channels;
        const std::uint32_t* behind = source + std::ptrdiff_t{cover.count} * shrink_channels;
        std::uint64_t sums[shrink_channels + 1];
        kernels.add_pixels(source, cover.count, sums);
        for (int c = 0; c < shrink_channels; ++c) {
            std::uint64_t sum = sums[c] * axis.source;
            if (cover.before) sum += std::uint64_t{cover.before} * source[c - shrink_channels];
            if (cover.after) sum += std::uint64_t{cover.after} * behind[c];
            *output++ = rounded(sum, units);
        }
    }
}

}  // namespace

void shrink(const PixelRows& source, int height, int width, const ShrinkKernels& kernels, std::uint8_t* output) {
    const Axis vertical(source.height, height), horizontal(source.width, width);
    std::vector<Cover> covers;
    covers.reserve(width);
    for (int i = 0; i < width; ++i) covers.emplace_back(horizontal, i);
    const std::uint64_t units = std::uint64_t{vertical.output} * horizontal.output;
    const int bytes = source.width * shrink_channels;

    parallel_for((height + rows_of_task - 1) / rows_of_task, [&](std::int64_t task) {
        static thread_local std::vector<std::uint32_t> total;
        const int begin = static_cast<int>(task) * rows_of_task, end = std::min(begin + rows_of_task, height);
        for (int row = begin; row < end; ++row) {
            total.assign(bytes + 1, 0);  // see add_pixels
            const Cover cover(vertical, row);
            const std::uint8_t* whole = source.data + cover.first * source.stride;
            const auto add = [&](const std::uint8_t* rows, int count, std::uint32_t weight) {
                kernels.add_rows(rows, source.stride, count, weight, bytes, total.data());
            };
            if (cover.before) add(whole - source.stride, 1, cover.before);
            if (cover.count) add(whole, cover.count, vertical.source);
            if (cover.after) add(whole + cover.count * source.stride, 1, cover.after);
            shrink_row(total.data(), horizontal, covers, units, kernels,
                       output + static_cast<std::ptrdiff_t>(row) * width * shrink_channels);
        }
    });
}

}  // namespace edgead
