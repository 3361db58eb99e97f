#include "nearest/projection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "shared/threads.h"

namespace edgead {
namespace {

// |U U^T - I| by its Frobenius norm, which is not smaller.
double distance_from_orthonormal(const Rows& rows) {
    std::vector<double> sums(rows.count, 0.0);
    parallel_for(static_cast<std::int64_t>(rows.count), [&](std::int64_t i) {
        for (std::size_t j = 0; j <= static_cast<std::size_t>(i); ++j) {
            double product = 0;
            for (std::size_t l = 0; l < rows.width; ++l) product += static_cast<double>(rows[i][l]) * rows[j][l];
            const double off = product - (static_cast<std::size_t>(i) == j);
            sums[i] += (static_cast<std::size_t>(i) == j ? 1 : 2) * off * off;
        }
    });
    double total = 0;
    for (double sum : sums) total += sum;
    return std::sqrt(total) * (1 + rounding_room);
}

}  // namespace

Projection::Projection(const NearestKernels& kernels, const Rows& directions)
    : kernels_(kernels), p_(directions.count), d_(directions.width) {
    if (identity()) return;
    spread_ = distance_from_orthonormal(directions);
    if (!(spread_ < 0.01)) throw std::invalid_argument("the rows of a projection must be orthonormal");
    const std::size_t width = kernels.panel_rows, panels = (p_ + width - 1) / width;
    panels_ = allocate_floats(panels * width * d_);
    std::fill_n(panels_.get(), panels * width * d_, 0.0f);
    for (std::size_t i = 0; i < p_; ++i)
        for (std::size_t j = 0; j < d_; ++j) panels_[i / width * width * d_ + j * width + i % width] = directions[i][j];
}

double Projection::off(double norm) const {
    const double u = 0x1p-24, d = static_cast<double>(d_), p = static_cast<double>(p_);
    if (identity()) return float_rounding(norm, d_);
    const double terms = std::min(d, double{chain}) + std::ceil(d / chain) + 1;
    return (1 + spread_) * std::sqrt(p) * (1.01 * terms * u / (1 - terms * u) * norm + float_rounding(norm, d_));
}

void Projection::apply(const Rows& x, float* y) const {
    if (identity()) {
        std::copy_n(x.data, x.count * d_, y);
        return;
    }
    static thread_local std::vector<float> tile;
    const std::size_t queries = kernels_.tile_queries, width = kernels_.panel_rows;
    tile.assign(queries * d_, 0.0f);
    alignas(64) float products[Tile::max_scores], sums[Tile::max_scores];
    const float zeros[Tile::max_queries] = {};
    float thresholds[Tile::max_queries];
    std::fill_n(thresholds, queries, std::numeric_limits<float>::infinity());
    for (std::size_t first = 0; first < x.count; first += queries) {
        const std::size_t here = std::min(queries, x.count - first);
        for (std::size_t r = 0; r < here; ++r)
            for (std::size_t j = 0; j < d_; ++j) tile[j * queries + r] = x[first + r][j];
        for (std::size_t begin = 0; begin < p_; begin += width) {
            const float* panel = panels_.get() + begin * d_;
            std::fill_n(sums, queries * width, 0.0f);
            for (std::size_t j = 0; j < d_; j += chain) {
                kernels_.score_tile(tile.data() + j * queries, panel + j * width, std::min(chain, d_ - j), zeros,
                                    thresholds, products);
                for (std::size_t i = 0; i < queries * width; ++i) sums[i] -= products[i];  // a score is 0 - product
            }
            for (std::size_t r = 0; r < here; ++r)
                std::copy_n(sums + r * width, std::min(width, p_ - begin), y + (first + r) * p_ + begin);
        }
    }
}

}  // namespace edgead
