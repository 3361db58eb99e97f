#include "nearest/centring.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>

#include "shared/threads.h"

namespace edgead {
namespace {

// What one task finds of its share of the rows.
struct Part {
    std::vector<double> sum;
    float largest = 0;  // magnitude
};

// Stops at the first row that is not finite, and lowers `bad_row` to it.
Part survey(const Rows& rows, RowRange range, std::atomic<std::size_t>& bad_row) {
    Part part{std::vector<double>(rows.width, 0.0)};
    for (std::size_t i = range.begin; i < range.end; ++i) {
        const float* row = rows[i];
        float not_finite = 0;  // x * 0 is NaN for NaN and Inf, and stays NaN
        for (std::size_t j = 0; j < rows.width; ++j) {
            part.sum[j] += row[j];
            part.largest = std::max(part.largest, std::fabs(row[j]));
            not_finite += row[j] * 0.0f;
        }
        if (not_finite != 0) {
            std::size_t first = bad_row.load();
            while (i < first && !bad_row.compare_exchange_weak(first, i)) {
            }
            break;
        }
    }
    return part;
}

}  // namespace

Centring Centring::of(const Rows& rows, const char* name) {
    const std::size_t n = rows.count, chunks = std::min<std::size_t>(n, 64), chunk = (n + chunks - 1) / chunks;
    std::vector<Part> parts(chunks);
    std::atomic<std::size_t> bad_row{n};
    parallel_for(static_cast<std::int64_t>(chunks), [&](std::int64_t c) {
        parts[c] = survey(rows, {std::min(n, c * chunk), std::min(n, (c + 1) * chunk)}, bad_row);
    });
    if (bad_row.load() < n)
        throw std::invalid_argument(std::string(name) + " has NaN or Inf in row " + std::to_string(bad_row.load()) +
                                    ": remove that row or fix what produced it");
    Centring centring;
    centring.mean.assign(rows.width, 0.0);
    float largest = 0;
    for (const Part& part : parts) {
        for (std::size_t j = 0; j < rows.width; ++j) centring.mean[j] += part.sum[j] / static_cast<double>(n);
        largest = std::max(largest, part.largest);
    }
    // No centred component exceeds twice the largest, no norm exceeds sqrt(d) times that.
    const double norm = 2.0 * largest * std::sqrt(static_cast<double>(rows.width));
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

}  // namespace edgead
