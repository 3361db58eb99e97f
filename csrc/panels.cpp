#include "panels.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

#include "threads.h"

namespace edgead {
namespace {

void* allocate_aligned(std::size_t bytes) {
    void* p = std::aligned_alloc(64, std::max<std::size_t>((bytes + 63) / 64 * 64, 64));
    if (!p) throw std::bad_alloc();
    return p;
}

}  // namespace

void FreeAligned::operator()(void* p) const { std::free(p); }

AlignedFloats allocate_floats(std::size_t count) {
    return AlignedFloats(static_cast<float*>(allocate_aligned(count * sizeof(float))));
}

Aligned<std::int8_t> allocate_zero_codes(std::size_t count) {
    Aligned<std::int8_t> codes(static_cast<std::int8_t*>(allocate_aligned(count)));
    std::fill_n(codes.get(), count, std::int8_t{0});
    return codes;
}

Centring Centring::of(const float* rows, std::size_t n, std::size_t d, const char* name) {
    const std::size_t chunks = std::min<std::size_t>(n, 64), chunk = (n + chunks - 1) / chunks;
    std::vector<std::vector<double>> sums(chunks);
    std::vector<float> largest(chunks, 0);
    std::atomic<std::size_t> bad_row{n};
    parallel_for(static_cast<std::int64_t>(chunks), [&](std::int64_t c) {
        std::vector<double> sum(d, 0.0);
        float peak = 0;
        for (std::size_t i = c * chunk; i < std::min(n, (c + 1) * chunk); ++i) {
            const float* row = rows + i * d;
            float not_finite = 0;  // x * 0 is NaN for NaN and Inf, and stays NaN
            for (std::size_t j = 0; j < d; ++j) {
                sum[j] += row[j];
                peak = std::max(peak, std::fabs(row[j]));
                not_finite += row[j] * 0.0f;
            }
            if (not_finite != 0) {
                std::size_t first = bad_row.load();
                while (i < first && !bad_row.compare_exchange_weak(first, i)) {}
                break;
            }
        }
        sums[c] = std::move(sum);
        largest[c] = peak;
    });
    if (bad_row.load() < n)
        throw std::invalid_argument(std::string(name) + " has NaN or Inf in row " + std::to_string(bad_row.load()) +
                                    ": remove that row or mend what produced it");
    Centring centring;
    centring.mean.assign(d, 0.0);
    for (const auto& sum : sums)
        for (std::size_t j = 0; j < sum.size(); ++j) centring.mean[j] += sum[j] / static_cast<double>(n);
    // No centred component exceeds twice the largest, no norm exceeds sqrt(d) times that.
    const double norm = 2.0 * *std::max_element(largest.begin(), largest.end()) * std::sqrt(static_cast<double>(d));
    if (norm > 0) centring.scale = std::ldexp(1.0, -std::ilogb(norm) - 1);
    return centring;
}

double Centring::apply(const float* row, float* target, std::size_t stride) const {
    double squared_norm[4] = {};  // four chains, for speed
    const std::size_t d = mean.size();
    const auto put = [&](std::size_t j, double& sum) {
        const double value = (row[j] - mean[j]) * scale;
        target[j * stride] = static_cast<float>(value);
        sum += value * value;
    };
    std::size_t j = 0;
    for (; j + 4 <= d; j += 4)
        for (std::size_t lane = 0; lane < 4; ++lane) put(j + lane, squared_norm[lane]);
    for (; j < d; ++j) put(j, squared_norm[0]);
    return (squared_norm[0] + squared_norm[1]) + (squared_norm[2] + squared_norm[3]);
}

Panels::Panels(const NearestKernels& kernels, const Centring& centring, std::size_t d, std::size_t capacity)
    : centring_(centring), d_(d), width_(kernels.panel_rows) {
    const std::size_t panels = (capacity + width_ - 1) / width_;
    data_ = allocate_floats(panels * d * width_);
    std::fill_n(data_.get(), panels * d * width_, 0.0f);
    half_norms_.assign(panels * width_, std::numeric_limits<float>::infinity());
    largest_norms_.assign(panels, 0.0f);
}

void Panels::put(std::size_t number, const float* row) {
    const std::size_t p = number / width_, column = number % width_;
    const double squared = centring_.apply(row, data_.get() + p * d_ * width_ + column, width_);
    half_norms_[number] = static_cast<float>(squared / 2);
    const float norm = static_cast<float>(std::sqrt(squared) * (1 + rounding_room));
    largest_norms_[p] = std::max(largest_norms_[p], norm);
}

void Panels::append(const float* row) { put(size_++, row); }

void Panels::fill(const float* rows, std::size_t n) {
    parallel_for(static_cast<std::int64_t>((n + width_ - 1) / width_), [&](std::int64_t p) {
        for (std::size_t i = p * width_; i < std::min(n, (p + 1) * width_); ++i) put(i, rows + i * d_);
    });
    size_ = n;
}

}  // namespace edgead
