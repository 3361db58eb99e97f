// View of rows of floats; it does not own them.
#pragma once

#include <cstddef>

namespace edgead {

// (count, width), one row after the other.
struct Rows {
    const float* data;
    std::size_t count, width;

    const float* operator[](std::size_t i) const { return data + i * width; }
};

// Rows [begin, end) of a bank.
struct RowRange {
    std::size_t begin, end;
};

}  // namespace edgead
