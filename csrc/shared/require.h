// Check of an argument: throws std::invalid_argument if a condition does not hold.
#pragma once

#include <stdexcept>

namespace edgead {

inline void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

}  // namespace edgead
