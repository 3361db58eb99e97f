#include "shared/aligned.h"

#include <algorithm>
#include <new>

namespace edgead {
namespace {

constexpr std::align_val_t line{64};

void* allocate_aligned(std::size_t bytes) {
    return ::operator new(std::max<std::size_t>((bytes + 63) / 64 * 64, 64), line);
}

}  // namespace

void FreeAligned::operator()(void* p) const { ::operator delete(p, line); }

AlignedFloats allocate_floats(std::size_t count) {
    return AlignedFloats(static_cast<float*>(allocate_aligned(count * sizeof(float))));
}

Aligned<std::int8_t> allocate_zero_codes(std::size_t count) {
    Aligned<std::int8_t> codes(static_cast<std::int8_t*>(allocate_aligned(count)));
    std::fill_n(codes.get(), count, std::int8_t{0});
    return codes;
}

}  // namespace edgead
