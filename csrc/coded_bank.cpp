#include "coded_bank.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>

#include "threads.h"

namespace edgead {
namespace {

constexpr double smallest_step = 0x1p-60;  // far below what float32 tells apart in the frame

std::int8_t code_of(double value, double step, int top) {
    return static_cast<std::int8_t>(std::clamp<long>(std::lrint(value / step), -top, top));
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

}  // namespace

void FreeAlignedBytes::operator()(void* p) const { std::free(p); }

AlignedBytes<std::int8_t> allocate_codes(std::size_t count) {
    const std::size_t bytes = std::max<std::size_t>((count + 63) / 64 * 64, 64);
    void* p = std::aligned_alloc(64, bytes);
    if (!p) throw std::bad_alloc();
    std::fill_n(static_cast<std::int8_t*>(p), bytes, std::int8_t{0});
    return AlignedBytes<std::int8_t>(static_cast<std::int8_t*>(p));
}

Unseen::Unseen(const Projection& projection, double squared_norm, double squared_projected) : low(0), high(0) {
    if (projection.identity()) return;
    const double off = projection.off(std::sqrt(squared_norm)), length = std::sqrt(squared_projected);
    const double most = length * (1 + 0x1p-13) + off, least = std::max(0.0, length * (1 - 0x1p-13) - off);
    const double room = squared_norm * rounding_room;
    low = std::max(0.0, squared_norm - room - most * most / (1 - projection.spread()));
    high = std::max(0.0, squared_norm + room - least * least / (1 + projection.spread()));
}

CodedBank::CodedBank(const ScanKernels& kernels, const Projection& projection, const Centring& centring,
                     const float* bank, std::size_t m, std::size_t d) {
    const std::size_t p = projection.dimension(), width = kernels.panel_rows;
    steps = (p + 3) / 4;
    panels = (m + width - 1) / width;
    codes = allocate_codes(panels * steps * width * 4);
    reach.assign(panels * width, 0.0f);
    energy.assign(panels * width, std::numeric_limits<float>::infinity());
    offset.assign(panels * width, 0);

    std::vector<float> seen(m * p);
    std::vector<double> squared_norms(m);
    for_blocks(m, [&](std::size_t begin, std::size_t end) {
        std::vector<float> rows((end - begin) * d);
        for (std::size_t i = begin; i < end; ++i)
            squared_norms[i] = centring.apply(bank + i * d, rows.data() + (i - begin) * d, 1);
        projection.apply(rows.data(), end - begin, seen.data() + begin * p);
    });
    step = std::max(largest_of(seen) / kernels.bank_top, smallest_step);

    std::vector<float> offs(m), lengths(m);
    for_blocks(m, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const float* z = seen.data() + i * p;
            const std::size_t panel = i / width, column = panel_column(static_cast<int>(i % width), kernels.lanes);
            std::int8_t* target = codes.get() + (panel * steps * width + column) * 4;
            double residual = 0, projected = 0;
            std::int64_t square = 0, sum = 0;
            for (std::size_t j = 0; j < p; ++j) {
                const std::int8_t code = code_of(z[j], step, kernels.bank_top);
                target[j / 4 * width * 4 + j % 4] = code;
                const double rest = z[j] - step * code;
                residual += rest * rest;
                projected += double{z[j]} * z[j];
                square += code * code;
                sum += code;
            }
            const Unseen unseen(projection, squared_norms[i], projected);
            const std::size_t place = panel * width + column;
            reach[place] = static_cast<float>(std::sqrt(unseen.high) * (1 + rounding_room));
            energy[place] =
                static_cast<float>((step * step * static_cast<double>(square) + unseen.low) / 2 * (1 - rounding_room));
            offset[place] = static_cast<std::int32_t>(kernels.query_zero * sum);
            lengths[i] = static_cast<float>(std::sqrt(static_cast<double>(square)) * (1 + rounding_room));
            offs[i] = static_cast<float>(
                (std::sqrt(residual) + projection.off(std::sqrt(squared_norms[i]))) * (1 + rounding_room));
        }
    });
    off = largest_of(offs);
    largest_length = largest_of(lengths);
    largest_reach = largest_of(reach);
    largest_energy = largest_of(energy);
}

FullCodes::FullCodes(const ScanKernels& kernels, const Centring& centring, const float* bank, std::size_t m,
                     std::size_t d)
    : length((d + 63) / 64 * 64), codes(allocate_codes(m * length)), rows(m) {
    for_blocks(m, [&](std::size_t begin, std::size_t end) {
        std::vector<float> x(d);
        for (std::size_t i = begin; i < end; ++i) {
            const double norm = std::sqrt(centring.apply(bank + i * d, x.data(), 1));
            const double step = std::max(largest_of(x) / kernels.bank_top, smallest_step);
            const auto used = static_cast<float>(step * (1 + rounding_room));
            double residual = 0;
            std::int64_t square = 0, sum = 0;
            for (std::size_t j = 0; j < d; ++j) {
                const std::int8_t code = code_of(x[j], used, kernels.bank_top);
                codes[i * length + j] = code;
                const double rest = x[j] - double{used} * code;
                residual += rest * rest;
                square += code * code;
                sum += code;
            }
            const double off = (std::sqrt(residual) + 1.01 * 0x1p-24 * norm) * (1 + rounding_room) + d * 0x1p-110;
            rows[i] = {used, static_cast<float>(double{used} * used * static_cast<double>(square)),
                       static_cast<float>(off), static_cast<std::int32_t>(kernels.query_zero * sum)};
        }
    });
}

}  // namespace edgead
