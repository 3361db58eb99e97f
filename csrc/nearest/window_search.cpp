#include "nearest/window_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "shared/threads.h"

namespace edgead {
namespace {

constexpr std::size_t features_a_task = 64;

}  // namespace

// Calls body(row of the grid) for each that is in the window and on the grid, always in the same order.
template <typename Body>
void WindowSearch::each_in_window(const std::int32_t* place, Body&& body) const {
    const auto row = static_cast<std::size_t>(place[0]), column = static_cast<std::size_t>(place[1]);
    const std::size_t top = row - std::min(row, reach_), bottom = std::min(row + reach_ + 1, height_);
    const std::size_t left = column - std::min(column, reach_), right = std::min(column + reach_ + 1, width_);
    for (std::size_t y = top; y < bottom; ++y)
        for (std::size_t x = left; x < right; ++x) body(y * width_ + x);
}

void WindowSearch::search(const Rows& features, const std::int32_t* places, float* there, float* back) const {
    const std::size_t grid = height_ * width_, side = 2 * reach_ + 1, window = side * side;
    const std::size_t tasks = (features.count + features_a_task - 1) / features_a_task;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    // Rounding to float32 keeps the order: the least of rounded distances is the rounded least one.
    std::vector<float> distances(features.count * window), nearest_feature(grid, infinity);
    std::fill(there, there + features.count, infinity);
    for (std::size_t part = 0; part < parts_.count; part += grid) {
        parallel_for(tasks, [&](std::int64_t task) {
            const std::size_t begin = task * features_a_task, end = std::min(features.count, begin + features_a_task);
            for (std::size_t i = begin; i < end; ++i) {
                float* distance = distances.data() + i * window;
                each_in_window(places + 2 * i, [&](std::size_t row) {
                    const double squared =
                        kernels_.nearest.squared_distance(features[i], parts_[part + row], parts_.width);
                    *distance = static_cast<float>(std::sqrt(squared));
                    there[i] = std::min(there[i], *distance++);
                });
            }
        });
        // One thread: features share the rows that they are near to.
        for (std::size_t i = 0; i < features.count; ++i) {
            const float* distance = distances.data() + i * window;
            each_in_window(places + 2 * i, [&](std::size_t row) {
                nearest_feature[row] = std::min(nearest_feature[row], *distance++);
            });
        }
    }
    for (std::size_t i = 0; i < features.count; ++i)
        back[i] = nearest_feature[places[2 * i] * width_ + places[2 * i + 1]];
}

}  // namespace edgead
