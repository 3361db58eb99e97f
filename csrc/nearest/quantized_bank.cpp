#include "nearest/quantized_bank.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "shared/threads.h"

namespace edgead {
namespace {

// Sums over the values and codes of a row: |rest|, and of squares and codes.
struct RowSums {
    double rest = 0, squared = 0, squared_code = 0;
    std::int64_t code = 0;
};

// Calls put(j, code) for every value.
template <typename Put>
RowSums encode_row(const float* values, std::size_t count, double step, int top, Put&& put) {
    RowSums sums;
    for (std::size_t j = 0; j < count; ++j) {
        const auto code = static_cast<std::int8_t>(std::clamp<long>(std::lrint(values[j] / step), -top, top));
        put(j, code);
        const double rest = values[j] - step * code;
        sums.rest += rest * rest;
        sums.squared += double{values[j]} * values[j];
        sums.squared_code += code * code;
        sums.code += code;
    }
    sums.rest = std::sqrt(sums.rest);
    return sums;
}

template <typename Visit>
void for_blocks(std::size_t m, Visit&& visit) {
    constexpr std::size_t rows = 256;
    parallel_for(static_cast<std::int64_t>((m + rows - 1) / rows),
                 [&](std::int64_t block) { visit(block * rows, std::min(m, (block + 1) * rows)); });
}

double largest_of(const std::vector<float>& values) {
    double largest = 0;
    for (float value : values)
        if (std::isfinite(value)) largest = std::max(largest, std::fabs(double{value}));
    return largest;
}

// Rows as the projection sees them.
struct ProjectedRows {
    std::vector<float> values;          // (m, p)
    std::vector<double> squared_norms;  // of the whole rows

    ProjectedRows(const Projection& projection, const Centring& centring, const Rows& bank)
        : values(bank.count * projection.dimension()), squared_norms(bank.count) {
        const std::size_t d = bank.width;
        for_blocks(bank.count, [&](std::size_t begin, std::size_t end) {
            std::vector<float> rows((end - begin) * d);
            for (std::size_t i = begin; i < end; ++i)
                squared_norms[i] = centring.apply(bank[i], rows.data() + (i - begin) * d, 1);
            projection.apply({rows.data(), end - begin, d}, values.data() + begin * projection.dimension());
        });
    }
};

}  // namespace

Unseen::Unseen(const Projection& projection, double squared_norm, double squared_projected) : low(0), high(0) {
    if (projection.identity()) return;
    const double off = projection.off(std::sqrt(squared_norm)), length = std::sqrt(squared_projected);
    const double most = length * (1 + encoded_room) + off, least = std::max(0.0, length * (1 - encoded_room) - off);
    const double room = squared_norm * rounding_room;
    low = std::max(0.0, squared_norm - room - most * most / (1 - projection.spread()));
    high = std::max(0.0, squared_norm + room - least * least / (1 + projection.spread()));
}

ProjectedCodes::ProjectedCodes(const ScanKernels& kernels, const Projection& projection, const Centring& centring,
                               const Rows& bank)
    : steps((projection.dimension() + 3) / 4) {
    const std::size_t m = bank.count, p = projection.dimension(), width = kernels.panel_rows;
    const std::size_t panels = (m + width - 1) / width;
    codes = allocate_zero_codes(panels * steps * width * 4);
    reach.assign(panels * width, 0.0f);
    energy.assign(panels * width, std::numeric_limits<float>::infinity());
    offset.assign(panels * width, 0);

    const ProjectedRows rows(projection, centring, bank);
    step = std::max<double>(largest_of(rows.values) / kernels.bank_top, smallest_step);
    std::vector<float> offs(m), lengths(m);
    for_blocks(m, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t panel = i / width, column = panel_column(static_cast<int>(i % width), kernels.lanes);
            const std::size_t place = panel * width + column;
            std::int8_t* target = codes.get() + (panel * steps * width + column) * 4;
            const RowSums sums =
                encode_row(rows.values.data() + i * p, p, step, kernels.bank_top,
                           [&](std::size_t j, std::int8_t code) { target[j / 4 * width * 4 + j % 4] = code; });
            const Unseen unseen(projection, rows.squared_norms[i], sums.squared);
            reach[place] = static_cast<float>(std::sqrt(unseen.high) * (1 + rounding_room));
            energy[place] =
                static_cast<float>((step * step * sums.squared_code + unseen.low) / 2 * (1 - rounding_room));
            offset[place] = static_cast<std::int32_t>(kernels.query_zero * sums.code);
            lengths[i] = static_cast<float>(std::sqrt(sums.squared_code) * (1 + rounding_room));
            const double norm = std::sqrt(rows.squared_norms[i]);
            offs[i] = static_cast<float>((sums.rest + projection.off(norm)) * (1 + rounding_room));
        }
    });
    off = largest_of(offs);
    largest_length = largest_of(lengths);
    largest_reach = largest_of(reach);
    largest_energy = largest_of(energy);
}

FullCodes::FullCodes(const ScanKernels& kernels, const Centring& centring, const Rows& bank)
    : length((bank.width + 63) / 64 * 64), codes(allocate_zero_codes(bank.count * length)), rows(bank.count) {
    const std::size_t d = bank.width;
    for_blocks(bank.count, [&](std::size_t begin, std::size_t end) {
        std::vector<float> x(d);
        for (std::size_t i = begin; i < end; ++i) {
            const double norm = std::sqrt(centring.apply(bank[i], x.data(), 1));
            const auto step = static_cast<float>(std::max<double>(largest_of(x) / kernels.bank_top, smallest_step) *
                                                 (1 + rounding_room));
            const RowSums sums = encode_row(x.data(), d, step, kernels.bank_top,
                                            [&](std::size_t j, std::int8_t code) { codes[i * length + j] = code; });
            const double off = (sums.rest + float_rounding(norm, d)) * (1 + rounding_room);
            rows[i] = {step, static_cast<float>(double{step} * step * sums.squared_code), static_cast<float>(off),
                       static_cast<std::int32_t>(kernels.query_zero * sums.code)};
        }
    });
}

QuantizedBank::QuantizedBank(const Kernels& kernels, const Centring& frame, const Rows& bank, const Rows& directions)
    : scan(*kernels.scan), nearest(kernels.nearest), centring(frame), rows(bank),
      projection(kernels.nearest, directions), projected(*kernels.scan, projection, frame, bank) {
    if (!projection.identity()) full.emplace(*kernels.scan, frame, bank);
}

}  // namespace edgead
