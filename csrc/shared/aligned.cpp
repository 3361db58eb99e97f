#include "shared/aligned.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#if defined(_WIN32)
#include <malloc.h>
#endif

namespace edgead {
namespace {

void* allocate_aligned(std::size_t bytes) {
    const std::size_t whole = std::max<std::size_t>((bytes + 63) / 64 * 64, 64);
#if defined(_WIN32)
    void* p = _aligned_malloc(whole, 64);
#else
    void* p = std::aligned_alloc(64, whole);
#endif
    if (!p) throw std::bad_alloc();
    return p;
}

}  // namespace

void FreeAligned::operator()(void* p) const {
#if defined(_WIN32)
    _aligned_free(p);
#else
    std::free(p);
#endif
}

AlignedFloats allocate_floats(std::size_t count) {
    return AlignedFloats(static_cast<float*>(allocate_aligned(count * sizeof(float))));
}

Aligned<std::int8_t> allocate_zero_codes(std::size_t count) {
    Aligned<std::int8_t> codes(static_cast<std::int8_t*>(allocate_aligned(count)));
    std::fill_n(codes.get(), count, std::int8_t{0});
    return codes;
}

}  // namespace edgead
