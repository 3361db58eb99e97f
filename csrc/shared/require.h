// The check of an argument.
#pragma once

#include <stdexcept>

namespace edgead {

inline void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

}  // namespace edgead
