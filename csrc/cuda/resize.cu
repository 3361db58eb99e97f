// Each thread computes one channel of one output pixel from the source pixels that it covers, row by row. Neighbouring
// threads read adjacent memory, which stays in the L1 cache until the next column.
#include <cstdint>

#include "band.cuh"
#include "launch.cuh"
#include "resizer.h"

namespace edgead::cuda {
namespace {

constexpr int resize_threads = 256;

// One channel of the source.
struct Channel {
    const std::uint8_t* data;
    std::int64_t stride;

    __device__ int at(int row, int column) const { return data[row * stride + column * image_channels]; }
};

// BORDER_REFLECT_101, folded as often as needed.
__device__ int reflected(int place, int size) {
    if (size == 1) return 0;
    while (place < 0 || place >= size) place = place < 0 ? -place : 2 * (size - 1) - place;
    return place;
}

__device__ float weight_of_row(const Band& band, int output, int tap) {
    return band.weights[static_cast<std::int64_t>(output) * band.taps + tap];
}

__device__ float weight_of_column(const Band& band, int output, int tap) {
    return band.weights[static_cast<std::int64_t>(tap) * band.outputs + output];
}

// In float32: exact for whole weights, as sums stay below 2^24; for those of areas in the order, and with the
// roundings, of OpenCV.
__device__ float row_sum(const Channel& source, int row, const Band& horizontal, int column) {
    const int first = horizontal.first[column], taps = taps_inside(horizontal, column);
    float sum = 0;
    for (int tap = 0; tap < taps; ++tap)
        sum = sum + static_cast<float>(source.at(row, first + tap)) * weight_of_column(horizontal, column, tap);
    return sum;
}

__device__ std::uint64_t whole_sum(const Channel& source, const Band& vertical, int row, const Band& horizontal,
                                   int column) {
    const int first = vertical.first[row], taps = taps_inside(vertical, row);
    std::uint64_t sum = 0;
    for (int tap = 0; tap < taps; ++tap)
        sum += static_cast<std::uint64_t>(weight_of_row(vertical, row, tap)) *
               static_cast<std::uint64_t>(row_sum(source, first + tap, horizontal, column));
    return sum;
}

__device__ std::uint64_t half_to_even(std::uint64_t total, std::uint64_t units) {
    const std::uint64_t whole = total / units, twice = 2 * (total % units);
    return whole + (twice > units || (twice == units && whole % 2 != 0));
}

template <Sums sums>
__device__ int value_of(const Channel& source, const Band& vertical, int row, const Band& horizontal, int column,
                        const Divisor& divisor) {
    if constexpr (sums == Sums::shrink) {
        return static_cast<int>(half_to_even(whole_sum(source, vertical, row, horizontal, column), divisor.units));
    } else if constexpr (sums == Sums::blocks) {
        const auto total = static_cast<int>(whole_sum(source, vertical, row, horizontal, column));
        if (vertical.taps == 2 && horizontal.taps == 2) return (total + 2) >> 2;
        return static_cast<int>(rintf(static_cast<float>(total) * divisor.share));
    } else if constexpr (sums == Sums::area) {
        const int first = vertical.first[row], taps = taps_inside(vertical, row);
        float sum = 0;
        for (int tap = 0; tap < taps; ++tap)
            sum = sum + row_sum(source, first + tap, horizontal, column) * weight_of_row(vertical, row, tap);
        return static_cast<int>(rintf(sum));
    } else {
        const int last_row = vertical.inputs - 3, last_column = horizontal.inputs - 3;
        int sum = 2;
        for (int i = 0; i < 2; ++i) {
            const int from = min(max(vertical.first[row] + i - 1, 0), last_row);
            int of_row = 0;
            for (int j = 0; j < 2; ++j) {
                const int pixel = source.at(from, min(max(horizontal.first[column] + j - 1, 0), last_column));
                of_row += pixel * static_cast<int>(weight_of_column(horizontal, column, j));
            }
            sum += static_cast<int>(weight_of_row(vertical, row, i)) * (of_row >> 4) >> 16;
        }
        return sum >> 2;
    }
}

template <Sums sums>
__global__ void __launch_bounds__(resize_threads)
    resize_kernel(const std::uint8_t* source, Band vertical, Band horizontal, Divisor divisor, std::uint8_t* target,
                  Placing placing) {
    const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * resize_threads + threadIdx.x;
    if (number >= static_cast<std::int64_t>(placing.height) * placing.width * image_channels) return;
    const int channel = static_cast<int>(number % image_channels);
    const int pixel = static_cast<int>(number / image_channels);
    const int row = reflected(pixel / placing.width - placing.top, vertical.outputs);
    const int column = reflected(pixel % placing.width - placing.left, horizontal.outputs);
    const std::int64_t source_width = horizontal.inputs - (sums == Sums::linear ? 2 : 0);
    const Channel from{source + (placing.reversed ? image_channels - 1 - channel : channel),
                       source_width * image_channels};
    target[number] = static_cast<std::uint8_t>(value_of<sums>(from, vertical, row, horizontal, column, divisor));
}

template <typename Use>
void with_kernel(Sums sums, Use use) {
    switch (sums) {
        case Sums::shrink: return use(resize_kernel<Sums::shrink>);
        case Sums::blocks: return use(resize_kernel<Sums::blocks>);
        case Sums::area: return use(resize_kernel<Sums::area>);
        case Sums::linear: return use(resize_kernel<Sums::linear>);
    }
}

}  // namespace

void resize(Sums sums, const std::uint8_t* source, const Band& vertical, const Band& horizontal, const Divisor& divisor,
            std::uint8_t* target, const Placing& placing, cudaStream_t stream) {
    const std::int64_t values = static_cast<std::int64_t>(placing.height) * placing.width * image_channels;
    with_kernel(sums, [&](auto* kernel) {
        launch(kernel, {(values + resize_threads - 1) / resize_threads, resize_threads, stream}, source, vertical,
               horizontal, divisor, target, placing);
    });
}

void load_resize_kernels() {
    for (const Sums sums : {Sums::shrink, Sums::blocks, Sums::area, Sums::linear})
        with_kernel(sums, [](auto* kernel) { load(kernel); });
}

}  // namespace edgead::cuda
