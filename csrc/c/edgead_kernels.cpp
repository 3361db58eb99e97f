// C interface of the kernels: checks arguments, calls, and turns exceptions into error texts. It prepares the same
// inputs, by the same rules, as edgead/kernels/nearest.py and banded_filters.py do, so that results are equal.
#include "c/edgead_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "isa/isa.h"
#include "nearest/nearest.h"
#include "shared/require.h"
#include "smooth/smooth.h"

using namespace edgead;

struct edgead_index {
    NearestIndex nearest;
};

namespace {

constexpr std::size_t min_rows = 256;  // below it the pre-scan costs more than it saves
constexpr double max_sigma = 1000;
constexpr int max_side = 1 << 20;  // so that no place overflows an int

thread_local char last_error[512] = "";  // no string: words for a lack of memory need none

template <typename Body>
int guarded(const Body& body) noexcept {
    try {
        body();
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(last_error, sizeof last_error, "%s", error.what());
        return -1;
    }
}

std::vector<double> gaussian_taps(double sigma) {
    if (sigma == 0) return {1.0};
    const int radius = static_cast<int>(std::ceil(4 * sigma));
    std::vector<double> taps;
    double sum = 0;
    for (int i = -radius; i <= radius; ++i) {
        const double x = i / sigma;
        taps.push_back(std::exp(-0.5 * (x * x)));
        sum += taps.back();
    }
    for (double& tap : taps) tap /= sum;
    return taps;
}

// The lines that an axis of `size` with its borders consists of: d c b a | a b c d | d c b a, folded as often as needed.
std::vector<std::int32_t> mirrored(int size, int radius) {
    std::vector<std::int32_t> lines;
    for (int position = -radius; position < size + radius; ++position) {
        const int folded = (position % (2 * size) + 2 * size) % (2 * size);
        lines.push_back(folded < size ? folded : 2 * size - 1 - folded);
    }
    return lines;
}

// Resize from `inputs` to `outputs`, then the Gaussian, as rows of weights.
struct Band {
    std::vector<std::int32_t> first;
    std::vector<float> weights;
    int inputs;

    Band(int inputs, int outputs, const std::vector<double>& taps) : inputs(inputs) {
        struct Place {
            int left, right;
            double part;  // of the right one
        };
        std::vector<Place> places;  // that of tap t of an output is `output + t`
        const double ratio = static_cast<double>(inputs) / outputs;
        for (const int pixel : mirrored(outputs, static_cast<int>(taps.size()) / 2)) {
            const double source = std::clamp((pixel + 0.5) * ratio - 0.5, 0.0, inputs - 1.0);
            const int left = static_cast<int>(source);
            places.push_back({left, std::min(left + 1, inputs - 1), source - left});
        }
        int width = 1;
        for (int output = 0; output < outputs; ++output) {
            int low = inputs, high = 0;
            for (std::size_t tap = 0; tap < taps.size(); ++tap) {
                low = std::min(low, places[output + tap].left);
                high = std::max(high, places[output + tap].right);
            }
            first.push_back(low);
            width = std::max(width, high - low + 1);
        }
        std::vector<double> sums(width);
        for (int output = 0; output < outputs; ++output) {
            const Place* place = &places[output];
            double* sum = sums.data();
            const int low = first[output];
            std::fill(sums.begin(), sums.end(), 0.0);
            // All left ones first, as numpy adds them: sums round alike.
            for (std::size_t t = 0; t < taps.size(); ++t) sum[place[t].left - low] += taps[t] * (1 - place[t].part);
            for (std::size_t t = 0; t < taps.size(); ++t) sum[place[t].right - low] += taps[t] * place[t].part;
            weights.insert(weights.end(), sums.begin(), sums.end());
        }
    }

    BandMatrix matrix() const {
        const int outputs = static_cast<int>(first.size());
        return {first.data(), weights.data(), outputs, static_cast<int>(weights.size() / first.size()), inputs};
    }
};

// Half a Gaussian, outermost weight first; its radius is filled up with weights of 0.
Blur make_blur(int height, int width, const std::vector<double>& taps, const SmoothKernels& kernels) {
    const int half = static_cast<int>(taps.size()) / 2;
    const int radius = (half + blur_taps - 1) / blur_taps * blur_taps;
    std::vector<float> weights(radius - half, 0.0f);
    weights.insert(weights.end(), taps.begin(), taps.begin() + half + 1);
    return Blur(std::move(weights), mirrored(height, radius), mirrored(width, radius), kernels);
}

}  // namespace

extern "C" {

edgead_index* edgead_index_new(const float* bank, std::size_t rows, std::size_t columns) {
    edgead_index* made = nullptr;
    guarded([&] {
        require(bank && rows > 0 && columns > 0, "the bank must hold at least one row and one column");
        require(rows < std::size_t{1} << 31, "the bank must have fewer than 2^31 rows");
        require(columns <= NearestIndex::max_dimension, "the bank must have at most 2^20 columns");
        const Rows all_columns = {nullptr, 0, columns};
        const Rows* projection = rows >= min_rows ? &all_columns : nullptr;
        made = new edgead_index{NearestIndex({bank, rows, columns}, chosen_kernels(), projection)};
    });
    return made;
}

void edgead_index_free(edgead_index* index) { delete index; }

int edgead_search(const edgead_index* index, const float* features, std::size_t count, int k, float* distance,
                  std::int32_t* row) {
    return guarded([&] {
        require(index, "the index is NULL");
        require((features && distance && row) || count == 0, "features, distance or row is NULL");
        const NearestIndex& nearest = index->nearest;
        require(k >= 1 && k <= NearestIndex::max_k && static_cast<std::size_t>(k) <= nearest.rows(),
                "k must be from 1 to 16 and at most the number of bank rows");
        const std::size_t good = nearest.search({features, count, nearest.dimension()}, k, distance, row);
        if (good < count)
            throw std::invalid_argument("features has NaN or Inf in row " + std::to_string(good) +
                                        ": the network's output is not usable");
    });
}

int edgead_smooth(const float* scores, int input_height, int input_width, double sigma, float* map, int height,
                  int width, float* maximum) {
    return guarded([&] {
        require(scores && map, "scores or map is NULL");
        const auto [least, most] = std::minmax({input_height, input_width, height, width});
        require(least >= 1 && most <= max_side, "scores and map must have from 1 to 2^20 rows and columns");
        require(sigma >= 0 && sigma <= max_sigma, "sigma must be from 0 to 1000 pixels");
        const std::size_t inputs = static_cast<std::size_t>(input_height) * input_width;
        require(map + static_cast<std::size_t>(height) * width <= scores || scores + inputs <= map,
                "map overlaps the scores that it is of");
        const SmoothKernels& kernels = chosen_kernels().smooth;
        const std::vector<double> taps = gaussian_taps(sigma);
        float largest = 0;
        bool finite;
        // Native code blurs by sliding where a map is not too small for it, or for its Gaussian.
        if (input_height == height && input_width == width &&
            std::max<int>(Blur::min_size - 1, std::ceil(4 * sigma)) < std::min(height, width)) {
            finite = make_blur(height, width, taps, kernels).apply(scores, map, &largest);
        } else {
            const Band vertical(input_height, height, taps), horizontal(input_width, width, taps);
            finite = Smoother(vertical.matrix(), horizontal.matrix(), kernels).apply(scores, map, &largest);
        }
        require(finite, "the scores hold NaN or Inf, or values beyond 2^126: fix what produced them");
        if (maximum) *maximum = largest;
    });
}

const char* edgead_last_error(void) { return last_error; }

}  // extern "C"
