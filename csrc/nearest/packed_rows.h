// Rows laid out for the nearest kernel, and the error bound of its scores, with its proof.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "nearest/centring.h"
#include "nearest/distance_kernels.h"
#include "shared/aligned.h"
#include "shared/rows.h"

namespace edgead {

// Error bound of a score. With u = 2^-24, exact centred rows q and b, and q', b' what float32 holds of them:
//   |q' - q| <= u|q|, |b' - b| <= u|b|                          (one rounding; the float64 subtraction is below 1e-8 of it)
//   |fl(q'.b') - q'.b'| <= d u / (1 - d u) |q'||b'|             (a chain of d multiply-adds, Higham's gamma_d)
//   |q'.b' - q.b| <= (2 u + u^2) |q||b|
//   |fl(|b'|^2 / 2) - |b|^2 / 2| <= (1.5 u + u^2) |b|^2           (summed in float64, rounded once)
//   final subtraction: u (|b|^2 / 2 + |q||b|) (1 + small)
// so |score - (|b|^2 / 2 - q.b)| <= product |q||b| + square |b|^2 + floor(q) with the factors below, each with room to
// spare for second-order terms and for norms that are known to a relative 1e-6. `floor` covers gradual underflow and a
// caller that flushes denormals: d terms, each off by at most 2^-126 (1 + |q| + |b|).
struct ScoreError {
    explicit ScoreError(std::size_t d)
        : product(1.01 * (d + 4) * 0x1p-24 / (1 - (d + 4) * 0x1p-24)), floor(d * 0x1p-110) {}
    double product, floor;
    static constexpr float square = 4 * 0x1p-24f;
};

// Rows in panels of NR columns, [panel][d][NR], with room for `capacity` rows. Unused columns never win: their
// half norm is infinite.
class PackedRows {
public:
    PackedRows(const NearestKernels& kernels, const Centring& centring, std::size_t d, std::size_t capacity);
    void append(const float* row);
    void fill(const Rows& rows);  // all rows at once, in parallel

    std::size_t size() const { return size_; }
    std::size_t panels() const { return (size_ + width_ - 1) / width_; }
    const float* panel(std::size_t p) const { return data_.get() + p * d_ * width_; }
    const float* half_norms(std::size_t p) const { return half_norms_.data() + p * width_; }
    float largest_norm(std::size_t p) const { return largest_norms_[p]; }  // rounded up

private:
    void put(std::size_t row_number, const float* row);

    const Centring& centring_;
    std::size_t d_, width_, size_ = 0;
    AlignedFloats data_;
    std::vector<float> half_norms_, largest_norms_;
};

// Up to MR queries laid out for score_tile, each with the bound below which a score is of interest.
class Tile {
public:
    static constexpr int max_queries = 32, max_scores = 32 * 32;

    Tile() = default;
    Tile(float* data, int width, std::size_t d) : data_(data), width_(width), d_(d) {}
    float* column(int query) { return data_ + query; }
    int width() const { return width_; }

    // `interest`: every row whose exact score may be at or below it is reported by scan. -infinity: none.
    void set(int query, double norm, const ScoreError& error) {
        slope_[query] = static_cast<float>(error.product * norm * (1 + rounding_room));
        floor_[query] = static_cast<float>(error.floor * (1 + norm));
    }
    void set_interest(int query, double interest) {
        const double room = std::isfinite(interest) ? std::fabs(interest) * rounding_room : 0;
        interest_[query] = static_cast<float>(interest + room);
    }
    // Bound of the score error of `query` against rows of at most `norm`.
    float error(int query, float norm) const {
        return slope_[query] * norm + (ScoreError::square * norm * norm + floor_[query]);
    }

    // Calls visit(query, row, score) for each row of panel p of interest. `visit` may lower an interest: rows of the
    // same panel are tested against the new one.
    template <typename Visit>
    void scan(const NearestKernels& kernels, const PackedRows& rows, std::size_t p, Visit&& visit) {
        alignas(64) float scores[max_scores];
        float thresholds[max_queries];
        const float norm = rows.largest_norm(p);
        for (int r = 0; r < width_; ++r) thresholds[r] = interest_[r] + error(r, norm);
        unsigned hits = kernels.score_tile(data_, rows.panel(p), d_, rows.half_norms(p), thresholds, scores);
        for (; hits; hits &= hits - 1) {
            const int r = __builtin_ctz(hits);
            const float* row_scores = scores + r * kernels.panel_rows;
            for (int j = 0; j < kernels.panel_rows; ++j) {
                const std::size_t row = p * kernels.panel_rows + j;
                if (row_scores[j] <= interest_[r] + error(r, norm) && row < rows.size()) visit(r, row, row_scores[j]);
            }
        }
    }

private:
    float* data_ = nullptr;
    int width_ = 0;
    std::size_t d_ = 0;
    float slope_[max_queries] = {}, floor_[max_queries] = {}, interest_[max_queries] = {};
};

}  // namespace edgead
