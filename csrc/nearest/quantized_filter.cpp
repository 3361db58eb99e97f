#include "nearest/quantized_filter.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "nearest/quantized_queries.h"

namespace edgead {
namespace {

// Whole tiles of every level. More queries read the bank less often, and keep more scores in the L2 cache.
constexpr std::size_t queries_at_once = 24;

// Rows whose scores are kept at once. The first bound comes from them, and with fewer it leaves more to look at: that
// costs more than scores that leave the L2 cache.
constexpr std::size_t segment_rows = 65536;

// The float32 product of a pair costs about as much as its second look, and a tenth of its distance.
constexpr std::size_t looks_share = 2, measures_share = 10;

constexpr std::size_t least_rows = 64;   // so many are always measured
constexpr std::size_t max_columns = 32;  // of a panel
constexpr std::size_t max_seeds = 256;   // of which the nearest are measured
constexpr auto room = static_cast<float>(rounding_room);

// A score that `count` of the columns reach, and not many more: the least of the peaks of `count` groups of them.
std::int16_t reached_by(std::size_t count, const std::int16_t* peaks, std::size_t columns) {
    std::int16_t least = std::numeric_limits<std::int16_t>::max();
    for (std::size_t group = 0; group < count; ++group) {
        std::int16_t highest = peaks[group];
        for (std::size_t column = group + count; column < columns; column += count)
            highest = std::max(highest, peaks[column]);
        least = std::min(least, highest);
    }
    return least;
}

}  // namespace

struct QuantizedFilter::Scratch : QuantizedQueries {
    std::vector<std::int16_t> scores, tops;
    std::vector<std::int32_t> rows, products;
    std::vector<float> squared;
    std::size_t stride = 0;
    bool loaded = false;

    const std::int16_t* scores_of(std::size_t i) const { return scores.data() + i % queries_at_once * stride; }
};

QuantizedFilter::Scratch& QuantizedFilter::scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

void QuantizedFilter::load(Scratch& scratch, const Rows& features, const PrescanGate& gate) const {
    scratch.loaded = gate.open();
    if (scratch.loaded) scratch.QuantizedQueries::load(bank_, features);
}

void QuantizedFilter::search(Scratch& scratch, std::size_t count, int k, RowRange range, NearestRows found,
                             PrescanGate& gate, std::vector<std::size_t>& left) const {
    for (std::size_t i = 0; scratch.loaded && i < count; ++i) {
        scratch.queries[i].limit = std::numeric_limits<double>::infinity();
        scratch.queries[i].left = scratch.queries[i].unfit;
    }
    for (std::size_t first = 0; first < count; first += queries_at_once) {
        const std::size_t last = std::min(count, first + queries_at_once), before = left.size();
        const bool trying = scratch.loaded && gate.open();  // other threads may close it meanwhile
        for (std::size_t begin = range.begin; trying && begin < range.end; begin += segment_rows) {
            const RowRange rows{begin, std::min(range.end, begin + segment_rows)};
            scan(scratch, first, last - first, rows);
            for (std::size_t i = first; i < last; ++i)
                if (!scratch.queries[i].left) look(scratch, i, k, rows, found.of(i));
        }
        for (std::size_t i = first; i < last; ++i)
            if (!trying || scratch.queries[i].left) left.push_back(i);
        if (trying) gate.count(last - first, left.size() - before);
    }
}

void QuantizedFilter::scan(Scratch& scratch, std::size_t first, std::size_t n, RowRange rows) const {
    const ScanKernels& kernels = bank_.scan;
    const ProjectedCodes& bank = bank_.projected;
    const std::size_t width = kernels.tile_queries, columns = kernels.panel_rows;
    const std::size_t first_tile = first / width, tiles = (n + width - 1) / width;
    const std::size_t first_panel = rows.begin / columns, last_panel = (rows.end + columns - 1) / columns;
    scratch.stride = (last_panel - first_panel) * columns;
    scratch.scores.resize(tiles * width * scratch.stride);
    for (std::size_t panel = first_panel; panel < last_panel; ++panel)
        for (std::size_t t = 0; t < tiles; ++t) {
            const QuantizedTile& tile = scratch.tiles[first_tile + t];
            const ScanStart start{bank.reach.data() + panel * columns, bank.energy.data() + panel * columns,
                                  bank.offset.data() + panel * columns, tile.reach_scale, tile.energy_scale};
            kernels.score_tile(scratch.codes.data() + (first_tile + t) * width * bank.steps * 4,
                               bank.codes.get() + panel * bank.steps * columns * 4, bank.steps, start, tile.shift,
                               scratch.scores.data() + t * width * scratch.stride + (panel - first_panel) * columns,
                               scratch.stride);
        }
}

// Rows with a score from `score` on go to scratch.rows; returns their number, at most `limit`.
std::size_t QuantizedFilter::select(Scratch& scratch, std::size_t i, std::int16_t score, RowRange rows,
                                    std::size_t limit) const {
    scratch.rows.resize(std::max(scratch.rows.size(), limit + max_columns));
    std::size_t count =
        bank_.scan.select(scratch.scores_of(i), scratch.stride, scratch.tops.data(), score, scratch.rows.data(), limit);
    for (std::size_t j = 0; j < count; ++j) scratch.rows[j] += static_cast<std::int32_t>(rows.begin);
    while (count > 0 && static_cast<std::size_t>(scratch.rows[count - 1]) >= rows.end) --count;
    return std::min(count, limit);
}

// Squared distances of the full rows' codes, for the rows in scratch.rows.
void QuantizedFilter::compare_codes(Scratch& scratch, std::size_t i, std::size_t count) const {
    const FullCodes& full = *bank_.full;
    const QuantizedQuery& query = scratch.queries[i];
    scratch.products.resize(std::max(scratch.products.size(), count));
    scratch.squared.resize(std::max(scratch.squared.size(), count));
    bank_.scan.products(scratch.full_codes.data() + i * full.length, full.codes.get(), full.length, scratch.rows.data(),
                        count, scratch.products.data());
    for (std::size_t j = 0; j < count; ++j) {
        const FullCodes::Row& row = full.rows[scratch.rows[j]];
        const auto product = static_cast<float>(scratch.products[j] - row.offset);
        scratch.squared[j] = query.full_squared + row.squared - 2 * query.full_step * row.step * product;
    }
}

// Measures the rows that look nearest, so that k rows are known to be near.
void QuantizedFilter::seed(Scratch& scratch, std::size_t i, int k, RowRange rows, const std::int16_t* peaks,
                           Neighbour* best) const {
    const int columns = bank_.scan.panel_rows;
    const std::int16_t score = reached_by(std::max(columns / 8 + k / 2, k), peaks, columns);
    std::size_t count = select(scratch, i, score, rows, max_seeds);
    if (bank_.full) {
        compare_codes(scratch, i, count);
    } else {
        scratch.squared.resize(std::max(scratch.squared.size(), count));
        const std::int16_t* scores = scratch.scores_of(i);
        for (std::size_t j = 0; j < count; ++j) scratch.squared[j] = -scores[scratch.rows[j] - rows.begin];
    }
    Neighbour near[max_neighbours];
    for (std::size_t j = 0; j < count; ++j) insert_sorted(near, k, {scratch.squared[j], scratch.rows[j]});
    count = std::min<std::size_t>(count, k);
    for (std::size_t j = 0; j < count; ++j) measure(scratch.queries[i], near[j].row, k, best);
}

// The score below which no row is within the limit: `floor` of quantized_bank.h in units of the tile's sums.
std::int16_t QuantizedFilter::threshold(const QuantizedTile& tile, const QuantizedQuery& query) const {
    constexpr int lowest = std::numeric_limits<std::int16_t>::min(), highest = std::numeric_limits<std::int16_t>::max();
    const double scale = bank_.centring.scale, squared = query.limit * scale * scale * (1 + rounding_room);
    if (!std::isfinite(squared)) return lowest;
    const double spread = 1 + bank_.projection.spread(), off = query.off + bank_.projected.off;
    const double floor = (query.wide - spread * squared) / 2 - off * spread * std::sqrt(squared) - off * off / 2;
    // Computed in doubles of at most wide + squared + off^2; a start is rounded four times in float32 and once to a
    // whole.
    const double room = (query.wide + squared + off * off) * rounding_room;
    const double sum = (floor - room) / tile.product - tile.range * rounding_room - 1;
    return static_cast<std::int16_t>(std::clamp<double>(std::floor(std::ldexp(sum, -tile.shift)), lowest, highest));
}

void QuantizedFilter::look(Scratch& scratch, std::size_t i, int k, RowRange rows, Neighbour* best) const {
    const ScanKernels& kernels = bank_.scan;
    QuantizedQuery& query = scratch.queries[i];
    std::int16_t peaks[max_columns];
    scratch.tops.resize((scratch.stride / kernels.panel_rows + lines_of_block - 1) / lines_of_block *
                        kernels.panel_rows);
    kernels.highest(scratch.scores_of(i), scratch.stride, scratch.tops.data(), peaks);
    if (query.limit == std::numeric_limits<double>::infinity()) seed(scratch, i, k, rows, peaks, best);
    const std::size_t share = bank_.full ? looks_share : measures_share;
    const std::size_t most = std::max<std::size_t>((rows.end - rows.begin) / share, least_rows);
    const std::int16_t score = threshold(scratch.tiles[i / kernels.tile_queries], query);
    const std::size_t count = select(scratch, i, score, rows, most);
    query.left = count == most;
    if (query.left) return;
    if (bank_.full)
        look_again(scratch, i, k, count, best);
    else
        for (std::size_t j = 0; j < count; ++j) measure(query, scratch.rows[j], k, best);
}

void QuantizedFilter::measure(QuantizedQuery& query, std::int32_t row, int k, Neighbour* best) const {
    if (std::any_of(best, best + k, [&](const Neighbour& known) { return known.row == row; })) return;
    const Rows& bank = bank_.rows;
    insert_sorted(best, k, {bank_.nearest.squared_distance(query.feature, bank[row], bank.width), row});
    query.limit = best[k - 1].squared;
}

// Measures what the second look leaves.
void QuantizedFilter::look_again(Scratch& scratch, std::size_t i, int k, std::size_t count, Neighbour* best) const {
    QuantizedQuery& query = scratch.queries[i];
    compare_codes(scratch, i, count);
    std::size_t to_measure = std::max<std::size_t>(bank_.rows.count / measures_share, least_rows);
    double known = -1;
    float reach = 0;  // no row of interest is farther away than this
    for (std::size_t j = 0; j < count; ++j) {
        if (known != query.limit) {
            known = query.limit;
            reach = static_cast<float>(std::sqrt(known) * bank_.centring.scale * (1 + rounding_room)) + query.full_off;
        }
        const FullCodes::Row& row = bank_.full->rows[scratch.rows[j]];
        const float far = reach + row.off, squares = query.full_squared + row.squared;
        // Seven roundings, of terms that add up to at most twice the squares, and of the square of `far`.
        if (scratch.squared[j] > far * far * (1 + room) + squares * room) continue;
        measure(query, scratch.rows[j], k, best);
        query.left = --to_measure == 0;
        if (query.left) return;
    }
}

}  // namespace edgead
