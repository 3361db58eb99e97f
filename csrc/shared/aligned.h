// Memory that begins at a cache line, as panels and codes require.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace edgead {

struct FreeAligned {
    void operator()(void* p) const;
};
template <typename T>
using Aligned = std::unique_ptr<T[], FreeAligned>;  // 64-byte aligned
using AlignedFloats = Aligned<float>;
AlignedFloats allocate_floats(std::size_t count);
Aligned<std::int8_t> allocate_zero_codes(std::size_t count);

}  // namespace edgead
