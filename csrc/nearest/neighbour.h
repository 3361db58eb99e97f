// A row of the bank and its distance to a query, ordered as a search returns them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace edgead {

constexpr int max_neighbours = 16;

struct Neighbour {
    double squared = std::numeric_limits<double>::infinity();
    std::int32_t row = std::numeric_limits<std::int32_t>::max();
    bool operator<(const Neighbour& other) const {
        return squared < other.squared || (squared == other.squared && row < other.row);
    }
};

// Keeps `best` (k of them) sorted.
template <typename T>
void insert_sorted(T* best, int k, T value) {
    if (!(value < best[k - 1])) return;
    int place = k - 1;
    for (; place > 0 && value < best[place - 1]; --place) best[place] = best[place - 1];
    best[place] = value;
}

// Where a search writes: the k nearest of query i, sorted, from `of(i)` on.
struct NearestRows {
    Neighbour* first;
    std::size_t stride;

    Neighbour* of(std::size_t i) const { return first + i * stride; }
};

}  // namespace edgead
