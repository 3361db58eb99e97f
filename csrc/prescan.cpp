#include "prescan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "exhaustive.h"

namespace edgead {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Rows whose scores are kept at once. The first bound comes from them, and with fewer it leaves more to look at: that
// costs more than scores that leave the L2 cache.
constexpr std::size_t segment_rows = 65536;

// The float32 product of a pair costs about as much as its second look, and a tenth of its distance.
constexpr std::size_t looks_share = 2, measures_share = 10;

constexpr float code_top = 126.9f;  // the largest value over its step: rounds to 127, however the quotient is rounded
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

struct Prescan::Query {
    const float* feature;
    bool left;
    double norm;    // |q|
    double off;     // q_off
    double wide;    // |y^|^2 + n^2, rounded down
    double limit;   // k rows are at most this far away, squared, in the units of the features
    float full_step, full_squared, full_off;
};

// What the queries of one tile share.
struct Prescan::Tile {
    double product;  // query step * bank step
    double range;    // of the sums: none is farther from zero, and none of the starts
    float reach_scale, energy_scale;
    int shift;
};

// Memory of one thread, kept between searches so that a frame allocates nothing.
struct Prescan::Scratch {
    std::vector<Query> queries;
    std::vector<Tile> tiles;
    std::vector<float> x, y;
    std::vector<std::uint8_t> codes, row_codes, full_codes;
    std::vector<std::int16_t> scores, tops;
    std::vector<std::int32_t> rows, products;
    std::vector<float> squared;
    std::size_t stride = 0;
};

Prescan::Prescan(const ScanKernels& scan, const NearestKernels& nearest, const Centring& centring, const float* bank,
                 std::size_t m, std::size_t d, const float* projection, std::size_t p)
    : scan_(scan), nearest_(nearest), centring_(centring), bank_(bank), d_(d),
      projection_(nearest, projection, p, d), coded_(scan, projection_, centring, bank, m, d) {
    if (p) full_ = std::make_unique<FullCodes>(scan, centring, bank, m, d);
}

void Prescan::search(const float* features, std::size_t n, int k, RowRange range, Luck& luck, Neighbour* best,
                     std::size_t stride, std::vector<std::size_t>& left) const {
    static thread_local Scratch scratch;
    const bool loaded = luck.worth_trying();
    if (loaded) load(scratch, features, n);
    for (std::size_t first = 0; first < n; first += scan_.queries_at_once) {
        const std::size_t last = std::min(n, first + scan_.queries_at_once), before = left.size();
        const bool trying = loaded && luck.worth_trying();  // luck may turn meanwhile, by other threads
        for (std::size_t begin = range.begin; trying && begin < range.end; begin += segment_rows) {
            const RowRange rows{begin, std::min(range.end, begin + segment_rows)};
            scan(scratch, first, last - first, rows);
            for (std::size_t i = first; i < last; ++i)
                if (!scratch.queries[i].left) look(scratch, i, k, rows, best + i * stride);
        }
        for (std::size_t i = first; i < last; ++i)
            if (!trying || scratch.queries[i].left) left.push_back(i);
        if (trying) luck.count(last - first, left.size() - before);
    }
}

void Prescan::load(Scratch& scratch, const float* features, std::size_t n) const {
    const std::size_t width = scan_.tile_queries, tiles = (n + width - 1) / width, p = projection_.dimension();
    scratch.queries.resize(tiles * width);
    scratch.tiles.resize(tiles);
    scratch.x.resize(tiles * width * d_);
    scratch.y.resize(tiles * width * p);
    scratch.codes.resize(tiles * width * coded_.steps * 4);
    scratch.row_codes.resize(coded_.steps * 4);
    if (full_) scratch.full_codes.resize(tiles * width * full_->length);
    for (std::size_t i = 0; i < n; ++i) {
        Query& query = scratch.queries[i];
        query.feature = features + i * d_;
        float* x = scratch.x.data() + i * d_;
        query.norm = std::sqrt(nearest_.centre(query.feature, centring_.mean.data(), centring_.scale, d_, x));
        query.limit = infinity;
        query.left = !(query.norm <= largest_query_norm);
        if (query.left) std::fill_n(x, d_, 0.0f);
    }
    projection_.apply(scratch.x.data(), n, scratch.y.data());
    for (std::size_t t = 0; t < tiles; ++t) load_tile(scratch, t, n);
    if (full_)
        for (std::size_t i = 0; i < n; ++i)
            load_full(scratch.queries[i], scratch.x.data() + i * d_, scratch.full_codes.data() + i * full_->length);
}

void Prescan::load_tile(Scratch& scratch, std::size_t t, std::size_t n) const {
    const std::size_t width = scan_.tile_queries, p = projection_.dimension(), first = t * width;
    const std::size_t last = std::min(n, first + width);
    const float largest = scan_.largest(scratch.y.data() + first * p, (last - first) * p);
    const float step = std::max(largest / code_top, smallest_step);
    Tile& tile = scratch.tiles[t];
    tile.product = step * coded_.step;
    double unseen = 0, length = 0;  // n, rounded up, and |y^| / step of the longest
    for (std::size_t i = first; i < last; ++i) {
        Query& query = scratch.queries[i];
        if (query.left) continue;
        const Encoded sums =
            scan_.encode(scratch.y.data() + i * p, p, step, scan_.query_zero, scratch.row_codes.data());
        std::uint8_t* target = scratch.codes.data() + t * coded_.steps * width * 4;
        if (scan_.queries_in_rows)
            std::copy_n(scratch.row_codes.data(), coded_.steps * 4, target + (i - first) * coded_.steps * 4);
        else
            for (std::size_t j = 0; j < coded_.steps; ++j)
                std::copy_n(scratch.row_codes.data() + 4 * j, 4, target + (j * width + i - first) * 4);
        const Unseen part(projection_, query.norm * query.norm, sums.squared);
        query.off = std::sqrt(sums.squared_rest) * (1 + encoded_room) + projection_.off(query.norm);
        query.wide = (double{step} * step * sums.squared_code + part.low) * (1 - rounding_room);
        unseen = std::max(unseen, std::sqrt(part.high) * (1 + rounding_room));
        length = std::max(length, std::sqrt(sums.squared_code));
    }
    tile.reach_scale = static_cast<float>(unseen / tile.product);
    tile.energy_scale = static_cast<float>(1 / tile.product);
    const double starts = (unseen * coded_.largest_reach + coded_.largest_energy) / tile.product;
    tile.range = starts + length * coded_.largest_length + 2;
    tile.shift = std::max(0, std::ilogb(tile.range) - 14);
    // Beyond this the starts would leave 32 bits.
    if (!(tile.range < 0x1p29) || !std::isfinite(tile.energy_scale) || !std::isfinite(tile.reach_scale)) {
        for (std::size_t i = first; i < last; ++i) scratch.queries[i].left = true;
        tile.reach_scale = tile.energy_scale = 0;  // the scores of a tile that is left are computed all the same
        tile.shift = 0;
    }
}

void Prescan::load_full(Query& query, const float* x, std::uint8_t* codes) const {
    const float step = std::max(scan_.largest(x, d_) / code_top, smallest_step);
    const Encoded sums = scan_.encode(x, d_, step, scan_.query_zero, codes);
    query.full_step = step;
    query.full_squared = static_cast<float>(double{step} * step * sums.squared_code);
    const double rest = std::sqrt(sums.squared_rest) * (1 + encoded_room);
    query.full_off = static_cast<float>((rest + float_rounding(query.norm, d_)) * (1 + rounding_room));
}

void Prescan::scan(Scratch& scratch, std::size_t first, std::size_t n, RowRange rows) const {
    const std::size_t width = scan_.tile_queries, columns = scan_.panel_rows;
    const std::size_t first_tile = first / width, tiles = (n + width - 1) / width;
    const std::size_t first_panel = rows.begin / columns, last_panel = (rows.end + columns - 1) / columns;
    scratch.stride = (last_panel - first_panel) * columns;
    scratch.scores.resize(tiles * width * scratch.stride);
    if (scan_.begin) scan_.begin();
    for (std::size_t panel = first_panel; panel < last_panel; ++panel)
        for (std::size_t t = 0; t < tiles; ++t) {
            const Tile& tile = scratch.tiles[first_tile + t];
            const ScanStart start{coded_.reach.data() + panel * columns, coded_.energy.data() + panel * columns,
                                  coded_.offset.data() + panel * columns, tile.reach_scale, tile.energy_scale};
            scan_.score_tile(scratch.codes.data() + (first_tile + t) * width * coded_.steps * 4,
                             coded_.codes.get() + panel * coded_.steps * columns * 4, coded_.steps, start, tile.shift,
                             scratch.scores.data() + t * width * scratch.stride + (panel - first_panel) * columns,
                             scratch.stride);
        }
    if (scan_.end) scan_.end();
}

const std::int16_t* Prescan::scores_of(const Scratch& scratch, std::size_t i) const {
    return scratch.scores.data() + i % scan_.queries_at_once * scratch.stride;
}

// Rows with a score from `score` on go to scratch.rows; returns their number, at most `limit`.
std::size_t Prescan::select(Scratch& scratch, std::size_t i, std::int16_t score, RowRange rows,
                            std::size_t limit) const {
    scratch.rows.resize(std::max(scratch.rows.size(), limit + max_columns));
    std::size_t count = scan_.select(scores_of(scratch, i), scratch.stride, scratch.tops.data(), score,
                                     scratch.rows.data(), limit);
    for (std::size_t j = 0; j < count; ++j) scratch.rows[j] += static_cast<std::int32_t>(rows.begin);
    while (count > 0 && static_cast<std::size_t>(scratch.rows[count - 1]) >= rows.end) --count;
    return std::min(count, limit);
}

// Squared distances of the full rows' codes, for the rows in scratch.rows.
void Prescan::compare_codes(Scratch& scratch, std::size_t i, std::size_t count) const {
    const Query& query = scratch.queries[i];
    scratch.products.resize(std::max(scratch.products.size(), count));
    scratch.squared.resize(std::max(scratch.squared.size(), count));
    scan_.products(scratch.full_codes.data() + i * full_->length, full_->codes.get(), full_->length,
                   scratch.rows.data(), count, scratch.products.data());
    for (std::size_t j = 0; j < count; ++j) {
        const FullCodes::Row& row = full_->rows[scratch.rows[j]];
        const auto product = static_cast<float>(scratch.products[j] - row.offset);
        scratch.squared[j] = query.full_squared + row.squared - 2 * query.full_step * row.step * product;
    }
}

// Measures the rows that look nearest, so that k rows are known to be near.
void Prescan::seed(Scratch& scratch, std::size_t i, int k, RowRange rows, const std::int16_t* peaks,
                   Neighbour* best) const {
    const int columns = scan_.panel_rows;
    const std::int16_t score = reached_by(std::max(columns / 8 + k / 2, k), peaks, columns);
    std::size_t count = select(scratch, i, score, rows, max_seeds);
    if (full_) {
        compare_codes(scratch, i, count);
    } else {
        scratch.squared.resize(std::max(scratch.squared.size(), count));
        const std::int16_t* scores = scores_of(scratch, i);
        for (std::size_t j = 0; j < count; ++j) scratch.squared[j] = -scores[scratch.rows[j] - rows.begin];
    }
    Neighbour near[max_neighbours];
    for (std::size_t j = 0; j < count; ++j) insert_sorted(near, k, {scratch.squared[j], scratch.rows[j]});
    count = std::min<std::size_t>(count, k);
    for (std::size_t j = 0; j < count; ++j) measure(scratch.queries[i], near[j].row, k, best);
}

// The score below which no row is within the limit.
std::int16_t Prescan::threshold(const Tile& tile, const Query& query) const {
    constexpr int lowest = std::numeric_limits<std::int16_t>::min(), highest = std::numeric_limits<std::int16_t>::max();
    const double scale = centring_.scale, squared = query.limit * scale * scale * (1 + rounding_room);
    if (!std::isfinite(squared)) return lowest;
    const double spread = 1 + projection_.spread(), off = query.off + coded_.off;
    const double floor = (query.wide - spread * squared) / 2 - off * spread * std::sqrt(squared) - off * off / 2;
    // Computed in doubles of at most wide + squared + off^2; a start is rounded four times in float32 and once to a
    // whole.
    const double room = (query.wide + squared + off * off) * rounding_room;
    const double sum = (floor - room) / tile.product - tile.range * rounding_room - 1;
    return static_cast<std::int16_t>(std::clamp<double>(std::floor(std::ldexp(sum, -tile.shift)), lowest, highest));
}

void Prescan::look(Scratch& scratch, std::size_t i, int k, RowRange rows, Neighbour* best) const {
    Query& query = scratch.queries[i];
    std::int16_t peaks[max_columns];
    scratch.tops.resize((scratch.stride / scan_.panel_rows + lines_of_block - 1) / lines_of_block * scan_.panel_rows);
    scan_.highest(scores_of(scratch, i), scratch.stride, scratch.tops.data(), peaks);
    if (query.limit == infinity) seed(scratch, i, k, rows, peaks, best);
    const std::size_t share = full_ ? looks_share : measures_share;
    const std::size_t most = std::max<std::size_t>((rows.end - rows.begin) / share, least_rows);
    const std::int16_t score = threshold(scratch.tiles[i / scan_.tile_queries], query);
    const std::size_t count = select(scratch, i, score, rows, most);
    query.left = count == most;
    if (query.left) return;
    if (full_)
        measure_rows(scratch, i, k, count, best);
    else
        for (std::size_t j = 0; j < count; ++j) measure(query, scratch.rows[j], k, best);
}

void Prescan::measure(Query& query, std::int32_t row, int k, Neighbour* best) const {
    if (std::any_of(best, best + k, [&](const Neighbour& known) { return known.row == row; })) return;
    insert_sorted(best, k, {nearest_.squared_distance(query.feature, bank_ + row * d_, d_), row});
    query.limit = best[k - 1].squared;
}

// Measures what the second look leaves.
void Prescan::measure_rows(Scratch& scratch, std::size_t i, int k, std::size_t count, Neighbour* best) const {
    Query& query = scratch.queries[i];
    compare_codes(scratch, i, count);
    std::size_t to_measure = std::max<std::size_t>(full_->rows.size() / measures_share, least_rows);
    double known = -1;
    float reach = 0;  // no row of interest is farther away than this
    for (std::size_t j = 0; j < count; ++j) {
        if (known != query.limit) {
            known = query.limit;
            reach = static_cast<float>(std::sqrt(known) * centring_.scale * (1 + rounding_room)) + query.full_off;
        }
        const FullCodes::Row& row = full_->rows[scratch.rows[j]];
        const float far = reach + row.off, squares = query.full_squared + row.squared;
        // Seven roundings, of terms that add up to at most twice the squares, and of the square of `far`.
        if (scratch.squared[j] > far * far * (1 + room) + squares * room) continue;
        measure(query, scratch.rows[j], k, best);
        query.left = --to_measure == 0;
        if (query.left) return;
    }
}

}  // namespace edgead
