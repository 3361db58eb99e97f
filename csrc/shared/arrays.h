// Array arguments of both Python extensions, and their checks. Arrays are used as they are or refused, never converted.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>

#include "band_matrix.h"
#include "require.h"

namespace edgead {

using Floats = pybind11::array_t<float, pybind11::array::c_style>;
using Ints = pybind11::array_t<std::int32_t, pybind11::array::c_style>;
using Longs = pybind11::array_t<std::int64_t, pybind11::array::c_style>;

inline BandMatrix band(const Ints& first, const Floats& weights, int inputs) {
    require(first.ndim() == 1 && weights.ndim() == 2 && first.shape(0) == weights.shape(0) && first.shape(0) > 0,
            "a band is first (outputs,) and weights (outputs, taps)");
    for (pybind11::ssize_t i = 0; i < first.shape(0); ++i)
        require(first.at(i) >= 0 && first.at(i) < inputs, "a band starts outside its inputs");
    return {first.data(), weights.data(), static_cast<int>(first.shape(0)), static_cast<int>(weights.shape(1)), inputs};
}

}  // namespace edgead
