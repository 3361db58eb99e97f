#include "nearest/packed_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "shared/threads.h"

namespace edgead {

PackedRows::PackedRows(const NearestKernels& kernels, const Centring& centring, std::size_t d, std::size_t capacity)
    : centring_(centring), d_(d), width_(kernels.panel_rows) {
    const std::size_t panels = (capacity + width_ - 1) / width_;
    data_ = allocate_floats(panels * d * width_);
    std::fill_n(data_.get(), panels * d * width_, 0.0f);
    half_norms_.assign(panels * width_, std::numeric_limits<float>::infinity());
    largest_norms_.assign(panels, 0.0f);
}

void PackedRows::put(std::size_t number, const float* row) {
    const std::size_t p = number / width_, column = number % width_;
    const double squared = centring_.apply(row, data_.get() + p * d_ * width_ + column, width_);
    half_norms_[number] = static_cast<float>(squared / 2);
    const float norm = static_cast<float>(std::sqrt(squared) * (1 + rounding_room));
    largest_norms_[p] = std::max(largest_norms_[p], norm);
}

void PackedRows::append(const float* row) { put(size_++, row); }

void PackedRows::fill(const Rows& rows) {
    parallel_for(static_cast<std::int64_t>((rows.count + width_ - 1) / width_), [&](std::int64_t p) {
        for (std::size_t i = p * width_; i < std::min(rows.count, (p + 1) * width_); ++i) put(i, rows[i]);
    });
    size_ = rows.count;
}

}  // namespace edgead
