// Products as in products.cu by blocks that stay: a block walks over many tiles of the bank with one tile of queries, and
// keeps the minima of a group over them. So fewer minima are written and read again; the copies of the next tile are
// among the products of this one; queries that fit stay in shared memory, so that less is read from the L2 cache;
// and there are about as many blocks as places for them, each with the same work. A last tile of queries that is not
// full is multiplied as far as it has queries.
#include "dynamic_shared.cuh"
#include "grid_order.cuh"
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"
#include "product_tiles.cuh"
#include "walk.h"

namespace edgead::cuda {
namespace {

// A warp's blocks of 16 queries are this far apart, so that all warps have as many in a tile that is not full.
constexpr int apart = 16 * warps_along_queries, most_blocks = warp_queries / 16;

// Of them in a tile with so many queries. There is code for 1, 2 and 4.
__host__ __device__ constexpr int warp_blocks(int queries) {
    return queries <= apart ? 1 : queries <= 2 * apart ? 2 : most_blocks;
}

struct Operands {
    PreparedRows queries, bank;
    std::int64_t query_count;
    int bank_tiles, d, depth;
    float2* minima;
    int group_count;
};

// The tiles that a block multiplies, `tile_depth` dimensions after another, in memory where copies put them beforehand.
class Pipeline {
public:
    __device__ Pipeline(const Operands& of, const Walk& walk, int query_tile, int first_tile, int tiles)
        : queries_(
              first_chunk(of.queries.halves + static_cast<std::int64_t>(query_tile) * tile_rows * of.depth, of.depth)),
          bank_(first_chunk(of.bank.halves + static_cast<std::int64_t>(first_tile) * tile_rows * of.depth, of.depth)),
          norms_(of.bank.half_norm + static_cast<std::int64_t>(first_tile) * tile_rows), depth_(of.depth),
          steps_(of.depth / tile_depth), stages_(walk.stages), query_places_(walk.query_places), tiles_left_(tiles) {
        for (int i = 0; i < stages_ - 1; ++i) fetch();
    }

    // Waits for the next step; what the one before it has is not used any more.
    __device__ void next() {
        if (stages_ == 3)
            wait_for_copies<1>();
        else
            wait_for_copies<0>();
        __syncthreads();
        fetch();
        place_ = place_ + 1 == stages_ ? 0 : place_ + 1;
        query_place_ = query_place_ + 1 == query_places_ ? 0 : query_place_ + 1;
    }

    __device__ const uint4* bank() const { return bank_places() + place_ * tile_chunks; }
    __device__ const uint4* queries() const { return query_places() + query_place_ * tile_chunks; }

    // Half norms of the tile's rows. They lie beside those of the tile before, which has more than one step.
    __device__ const float* half_norms(int tile) const {
        return reinterpret_cast<const float*>(norm_places() + tile % 2 * norm_chunks);
    }

private:
    static __device__ uint4* norm_places() { return dynamic_shared(); }
    static __device__ uint4* bank_places() { return dynamic_shared() + 2 * norm_chunks; }
    __device__ uint4* query_places() const { return bank_places() + stages_ * tile_chunks; }

    // Starts the copies of the step that is stages - 1 ahead.
    __device__ void fetch() {
        if (tiles_left_ > 0) {
            load_tile(bank_places() + fetch_place_ * tile_chunks, bank_ + fetch_step_ * tile_depth, depth_);
            if (fetch_tile_ == 0 || query_places_ < steps_)
                load_tile(query_places() + fetch_query_place_ * tile_chunks, queries_ + fetch_step_ * tile_depth,
                          depth_);
            if (fetch_step_ == 0 && static_cast<int>(threadIdx.x) < norm_chunks)
                copy_async(norm_places() + fetch_tile_ % 2 * norm_chunks + threadIdx.x, norms_ + threadIdx.x * 4);
            fetch_place_ = fetch_place_ + 1 == stages_ ? 0 : fetch_place_ + 1;
            fetch_query_place_ = fetch_query_place_ + 1 == query_places_ ? 0 : fetch_query_place_ + 1;
            if (++fetch_step_ == steps_) {
                fetch_step_ = 0;
                ++fetch_tile_;
                --tiles_left_;
                bank_ += static_cast<std::int64_t>(tile_rows) * depth_;
                norms_ += tile_rows;
            }
        }
        commit_copies();
    }

    const std::uint16_t *queries_, *bank_;
    const float* norms_;
    int depth_, steps_, stages_, query_places_, tiles_left_;
    int fetch_tile_ = 0, fetch_step_ = 0, fetch_place_ = 0, fetch_query_place_ = 0;
    int place_ = -1, query_place_ = -1;
};

// The largest negative scores of the lane's queries in the group so far.
template <int blocks>
__device__ __forceinline__ void add_tile(float2 (&most)[blocks * halves], const Sums<blocks>& sums, std::uint32_t mask,
                                         std::uint32_t tile_mask, std::uint32_t tile) {
#pragma unroll
    for (int r = 0; r < blocks * halves; ++r) {
        const float2 two = two_largest(sums, r, mask);
        const float first = float_of((bits_of(two.x) & ~tile_mask) | tile);
        most[r].y = fmaxf(fmaxf(most[r].y, two.y), fminf(most[r].x, first));
        most[r].x = fmaxf(most[r].x, first);
    }
}

template <int blocks>
__device__ __forceinline__ void walk_tiles(const Operands& of, const Walk& walk, int query_tile, int first_tile,
                                           int tiles) {
    const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    const int warp_query = warp / warps_along_rows * 16, warp_row = warp % warps_along_rows * warp_rows;
    const std::int64_t first_query = static_cast<std::int64_t>(query_tile) * tile_rows + warp_query;
    const float* weights = of.queries.weight + first_query;
    const auto weight_of = [&](int r) { return weights[lane_query(lane, r, apart)] * of.bank.weight[0]; };
    const std::uint32_t mask = ~15u | static_cast<unsigned>(of.d >> 31);
    const std::uint32_t slot_mask = (1u << slot_digits(walk.tiles)) - 1, tile_mask = slot_mask & mask;
    float2* minima = of.minima + first_query * of.group_count +
                     static_cast<std::int64_t>(first_tile / walk.tiles) * tile_groups + warp_row / group_rows +
                     lane % warp_groups;
    Pipeline pipeline(of, walk, query_tile, first_tile, tiles);
    float2 most[blocks * halves];
    pipeline.next();
    for (int tile = 0, of_group = 0; tile < tiles; ++tile) {
        Sums<blocks> sums;
        {
            float weight[blocks * halves];
#pragma unroll
            for (int r = 0; r < blocks * halves; ++r) {
                weight[r] = weight_of(r);
                if (of_group == 0) most[r] = {float_of(0xff800000u), float_of(0xff800000u)};
            }
            start_sums(sums, weight, pipeline.half_norms(tile) + warp_row);
        }
        static_assert(tile_depth == 32, "");
        int left = of.d;
        for (; left > 16; left -= tile_depth) {
            multiply_tiles<2, apart>(sums, pipeline.queries(), pipeline.bank(), warp_query, warp_row);
            pipeline.next();
        }
        if (left > 0) {
            multiply_tiles<1, apart>(sums, pipeline.queries(), pipeline.bank(), warp_query, warp_row);
            pipeline.next();
        }
        add_tile(most, sums, mask, tile_mask, static_cast<unsigned>(of_group) * group_rows);
        if (++of_group < walk.tiles && tile + 1 < tiles) continue;
        of_group = 0;
#pragma unroll
        for (int r = 0; r < blocks * halves; ++r)
            minima[lane_query(lane, r, apart) * static_cast<std::int64_t>(of.group_count)] =
                entry_of(most[r], weight_of(r), slot_mask);
        minima += tile_groups;
    }
}

// The first blocks have full tiles of queries, those with consecutive numbers the same rows of the bank, so that it is
// read from memory once; the last ones, which have less to do, the tile that is not full.
__global__ void __launch_bounds__(product_threads, blocks_per_multiprocessor)
    walking_products_kernel(Operands of, Walk walk, int full_tiles, int full_blocks) {
    wait_for_kernel_ahead();
    let_next_kernel_begin();
    const int block = static_cast<int>(blockIdx.x);
    const bool full = block < full_blocks;
    const int query_tile = full ? block % full_tiles : full_tiles;
    const int walked = (full ? walk.groups : walk.trimmed_groups) * walk.tiles;
    const int first_tile = (full ? block / full_tiles : block - full_blocks) * walked;
    const int tiles = min(walked, of.bank_tiles - first_tile);
    switch (full ? most_blocks : warp_blocks(static_cast<int>(of.query_count % tile_rows))) {
        case 1: walk_tiles<1>(of, walk, query_tile, first_tile, tiles); break;
        case 2: walk_tiles<2>(of, walk, query_tile, first_tile, tiles); break;
        default: walk_tiles<most_blocks>(of, walk, query_tile, first_tile, tiles);
    }
}

}  // namespace

void walking_minima(const PreparedRows& queries, std::int64_t query_count, const PreparedRows& bank,
                    std::int64_t padded_bank, int d, const Walk& walk, bool early, float2* minima,
                    cudaStream_t stream) {
    const int depth = (d + tile_depth - 1) / tile_depth * tile_depth;
    const auto bank_tiles = static_cast<int>(padded_bank / tile_rows);
    const auto whole = static_cast<int>(query_count / tile_rows), rest = static_cast<int>(query_count % tile_rows);
    const int full_tiles = whole + (warp_blocks(rest) == most_blocks);
    const auto blocks = [&](int groups) { return (bank_tiles + groups * walk.tiles - 1) / (groups * walk.tiles); };
    const std::int64_t full_blocks = static_cast<std::int64_t>(full_tiles) * blocks(walk.groups);
    const std::int64_t all =
        full_blocks + (whole * tile_rows + rest > full_tiles * tile_rows ? blocks(walk.trimmed_groups) : 0);
    launch(walking_products_kernel, {all, product_threads, stream, walk.shared_bytes(), early},
           Operands{queries, bank, query_count, bank_tiles, d, depth, minima, group_count(padded_bank, walk.tiles)},
           walk, full_tiles, static_cast<int>(full_blocks));
}

bool load_walking_kernel(const Card& card) {
    load(walking_products_kernel, most_shared_bytes(card));
    return begins_early(walking_products_kernel, card);
}

}  // namespace edgead::cuda
