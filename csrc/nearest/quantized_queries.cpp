#include "nearest/quantized_queries.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "nearest/gemm_search.h"

namespace edgead {
namespace {

constexpr float code_top = 126.9f;  // the largest value over its step: rounds to 127, however the quotient is rounded

// `unseen` and `length` are those of the longest query. Returns false where the starts would leave 32 bits.
bool set_scales(QuantizedTile& tile, const ProjectedCodes& rows, double unseen, double length) {
    tile.reach_scale = static_cast<float>(unseen / tile.product);
    tile.energy_scale = static_cast<float>(1 / tile.product);
    const double starts = (unseen * rows.largest_reach + rows.largest_energy) / tile.product;
    tile.range = starts + length * rows.largest_length + 2;
    tile.shift = std::max(0, std::ilogb(tile.range) - 14);
    return tile.range < 0x1p29 && std::isfinite(tile.energy_scale) && std::isfinite(tile.reach_scale);
}

}  // namespace

void QuantizedQueries::load(const QuantizedBank& bank, const Rows& features) {
    const std::size_t n = features.count, d = features.width, p = bank.projection.dimension();
    const std::size_t width = bank.scan.tile_queries, count = (n + width - 1) / width;
    queries.resize(count * width);
    tiles.resize(count);
    x_.resize(count * width * d);
    y_.resize(count * width * p);
    codes.resize(count * width * bank.projected.steps * 4);
    row_codes_.resize(bank.projected.steps * 4);
    if (bank.full) full_codes.resize(count * width * bank.full->length);
    for (std::size_t i = 0; i < n; ++i) {
        QuantizedQuery& query = queries[i];
        query.feature = features[i];
        float* x = x_.data() + i * d;
        const Centring& centring = bank.centring;
        query.norm = std::sqrt(bank.nearest.centre(query.feature, centring.mean.data(), centring.scale, d, x));
        query.unfit = !(query.norm <= largest_query_norm);
        if (query.unfit) std::fill_n(x, d, 0.0f);
    }
    bank.projection.apply({x_.data(), n, d}, y_.data());
    for (std::size_t t = 0; t < count; ++t) load_tile(bank, t, n);
    if (bank.full)
        for (std::size_t i = 0; i < n; ++i) load_full(bank, i);
}

void QuantizedQueries::load_tile(const QuantizedBank& bank, std::size_t t, std::size_t n) {
    const ScanKernels& scan = bank.scan;
    const ProjectedCodes& rows = bank.projected;
    const std::size_t width = scan.tile_queries, p = bank.projection.dimension(), first = t * width;
    const std::size_t last = std::min(n, first + width);
    const float largest = scan.largest(y_.data() + first * p, (last - first) * p);
    const float step = std::max(largest / code_top, smallest_step);
    QuantizedTile& tile = tiles[t];
    tile.product = step * rows.step;
    double unseen = 0, length = 0;  // n, rounded up, and |y^| / step of the longest
    for (std::size_t i = first; i < last; ++i) {
        QuantizedQuery& query = queries[i];
        if (query.unfit) continue;
        const Encoded sums = scan.encode(y_.data() + i * p, p, step, scan.query_zero, row_codes_.data());
        std::uint8_t* target = codes.data() + t * rows.steps * width * 4;
        for (std::size_t j = 0; j < rows.steps; ++j)
            std::copy_n(row_codes_.data() + 4 * j, 4, target + (j * width + i - first) * 4);
        const Unseen part(bank.projection, query.norm * query.norm, sums.squared);
        query.off = std::sqrt(sums.squared_rest) * (1 + encoded_room) + bank.projection.off(query.norm);
        query.wide = (double{step} * step * sums.squared_code + part.low) * (1 - rounding_room);
        unseen = std::max(unseen, std::sqrt(part.high) * (1 + rounding_room));
        length = std::max(length, std::sqrt(sums.squared_code));
    }
    if (set_scales(tile, rows, unseen, length)) return;
    for (std::size_t i = first; i < last; ++i) queries[i].unfit = true;
    tile.reach_scale = tile.energy_scale = 0;  // the scores of a tile that is left are computed all the same
    tile.shift = 0;
}

void QuantizedQueries::load_full(const QuantizedBank& bank, std::size_t i) {
    const ScanKernels& scan = bank.scan;
    const std::size_t d = bank.rows.width;
    const float* x = x_.data() + i * d;
    const float step = std::max(scan.largest(x, d) / code_top, smallest_step);
    const Encoded sums = scan.encode(x, d, step, scan.query_zero, full_codes.data() + i * bank.full->length);
    QuantizedQuery& query = queries[i];
    query.full_step = step;
    query.full_squared = static_cast<float>(double{step} * step * sums.squared_code);
    const double rest = std::sqrt(sums.squared_rest) * (1 + encoded_room);
    query.full_off = static_cast<float>((rest + float_rounding(query.norm, d)) * (1 + rounding_room));
}

}  // namespace edgead
