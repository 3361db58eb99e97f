#include "band.h"

#include <cstddef>
#include <vector>

namespace edgead::cuda {

BandMemory::BandMemory(const BandMatrix& band, bool transposed) {
    const auto outputs = static_cast<std::size_t>(band.outputs), taps = static_cast<std::size_t>(band.taps);
    std::vector<float> weights(outputs * taps);
    for (std::size_t i = 0; i < outputs; ++i)
        for (std::size_t tap = 0; tap < taps; ++tap)
            weights[transposed ? tap * outputs + i : i * taps + tap] = band.weights[i * taps + tap];
    const std::size_t weight_bytes = weights.size() * sizeof(float), first_bytes = outputs * sizeof(std::int32_t);
    memory_.grow(weight_bytes + first_bytes);
    char* first = memory_.as<char>() + weight_bytes;
    const Stream stream;
    const WaitsAtEnd waits(stream.get());
    copy_in(memory_.data(), weights.data(), weight_bytes, stream.get());
    copy_in(first, band.first, first_bytes, stream.get());
    wait(stream.get());
    band_ = {reinterpret_cast<const std::int32_t*>(first), memory_.as<float>(), band.outputs, band.taps, band.inputs};
}

}  // namespace edgead::cuda
