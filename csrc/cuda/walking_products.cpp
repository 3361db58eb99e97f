#include "walking_products.h"

#include <algorithm>

#include "walk.h"

namespace edgead::cuda {
namespace {

constexpr int most_walked = 16;        // tiles of a block
constexpr int reserved_shared = 1024;  // bytes of a block that CUDA takes

int steps_of(int d) { return (d + tile_depth - 1) / tile_depth; }

}  // namespace

std::size_t most_shared_bytes(const Card& card) {
    return card.shared_bytes / blocks_per_multiprocessor - reserved_shared;
}

std::size_t Walk::shared_bytes() const {
    return static_cast<std::size_t>(2 * norm_chunks + (stages + query_places) * tile_chunks) * chunk_bytes;
}

Walk choose_walk(const Card& card, std::int64_t queries, std::int64_t padded_bank, int d, int most_group_tiles) {
    const std::int64_t query_tiles = std::max<std::int64_t>(1, queries / tile_rows),
                       bank_tiles = padded_bank / tile_rows;
    Walk best{};
    for (std::int64_t walked = 1, least = 0; walked <= most_walked; walked *= 2) {
        // Of a multiprocessor, in twentieths of a tile, of which a block takes three to begin. One block alone does not
        // fill it.
        const std::int64_t blocks = query_tiles * ((bank_tiles + walked - 1) / walked);
        const std::int64_t most = (blocks + card.multiprocessors - 1) / card.multiprocessors;
        const std::int64_t work = most * (20 * std::min(walked, bank_tiles) + 3) * (most == 1 ? 5 : 4);
        if (walked > 1 && work > least) continue;
        least = work;
        best.tiles = static_cast<int>(std::min<std::int64_t>(walked, most_group_tiles));
        best.groups = static_cast<int>(walked) / best.tiles;
    }
    best.trimmed_groups = 2 * best.groups;
    for (const auto& [stages, places] : {std::pair{3, steps_of(d)}, {2, steps_of(d)}, {3, 3}}) {
        best.stages = stages, best.query_places = places;
        if (best.shared_bytes() <= most_shared_bytes(card)) break;
    }
    return best;
}

bool walks(const Card& card, int d) {
    return steps_of(d) > 1 && choose_walk(card, 1, tile_rows, d, 1).shared_bytes() <= most_shared_bytes(card);
}

WalkingProducts::WalkingProducts(const Bank& bank) : HalfProducts(bank), card_(current_card()) {
    const std::int64_t padded = whole_tiles(bank.rows.count);
    early_ = load_walking_kernel(card_);
    for (int tiles = 1; tiles <= most_tiles; tiles *= 2)
        extents_of(tiles).grow(static_cast<std::size_t>(group_count(padded, tiles)) * sizeof(Extent));
}

void WalkingProducts::prepare_bank(cudaStream_t stream) {
    HalfProducts::prepare_bank(stream);
    for (int tiles = 1; tiles <= most_tiles; tiles *= 2)
        group_extents(rows_from(0).extent, whole_tiles(bank_.rows.count), tiles, extents_of(tiles).as<Extent>(),
                      stream);
}

void WalkingProducts::prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream) {
    assumed_ = queries.count;
    HalfProducts::prepare(queries, bad_row, first_row, stream);
}

GroupScores WalkingProducts::minima(std::int64_t, std::int64_t count, int k, float2* target, cudaStream_t stream) {
    const PreparedRows& queries = prepared_queries_.get();
    const std::int64_t padded = whole_tiles(count);
    const int d = bank_.rows.d;
    const Walk walk = choose_walk(card_, assumed_, padded, d, group_tiles(k));
    walking_minima(queries, queries_, rows_from(0), padded, d, walk, early_, target, stream);
    return {target,
            queries.extent,
            extents_of(walk.tiles).as<Extent>(),
            group_count(padded, walk.tiles),
            walk.tiles,
            ScoreError(d, walk.tiles * group_rows),
            early_};
}

bool walking_works(const Card& card, const Problem& problem) { return !problem.in_ranges && walks(card, problem.d); }

std::unique_ptr<Products> make_walking(const Bank& bank, cudaStream_t stream) {
    auto products = std::make_unique<WalkingProducts>(bank);
    products->prepare_bank(stream);
    return products;
}

}  // namespace edgead::cuda
