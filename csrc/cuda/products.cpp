#include "products.h"

#include <cstddef>

#include "layout.cuh"

namespace edgead::cuda {
namespace {

constexpr int whole_depth(int d) { return (d + tile_depth - 1) / tile_depth * tile_depth; }

}  // namespace

void PreparedMemory::reserve(std::int64_t padded, int d) {
    const auto n = static_cast<std::size_t>(padded);
    const std::size_t halves = n * static_cast<std::size_t>(whole_depth(d)) * sizeof(std::uint16_t);
    memory_.grow(halves + n * (2 * sizeof(float) + sizeof(Extent)));
    char* bytes = memory_.as<char>();
    rows_.halves = memory_.as<std::uint16_t>();
    rows_.extent = reinterpret_cast<Extent*>(bytes + halves);
    rows_.weight = reinterpret_cast<float*>(bytes + halves + n * sizeof(Extent));
    rows_.half_norm = rows_.weight + n;
}

Products::Products(const Bank& bank) : bank_(bank) {
    const std::int64_t padded = whole_tiles(bank.rows.count);
    load_products_kernel();
    prepared_bank_.reserve(padded, bank.rows.d);
    group_extents_.grow(static_cast<std::size_t>(group_count(padded)) * sizeof(Extent));
}

void Products::prepare_bank(cudaStream_t stream) {
    const std::int64_t padded = whole_tiles(bank_.rows.count);
    prepare_rows(bank_.rows, padded, whole_depth(bank_.rows.d), bank_.frame, bank_.exponent, prepared_bank_.get(),
                 nullptr, 0, stream);
    group_extents(prepared_bank_.get().extent, padded, group_extents_.as<Extent>(), stream);
}

void Products::reserve(std::int64_t padded_queries) { prepared_queries_.reserve(padded_queries, bank_.rows.d); }

void Products::prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream) {
    queries_ = queries.count;
    prepare_rows(queries, whole_tiles(queries_), whole_depth(queries.d), bank_.frame, own_exponent,
                 prepared_queries_.get(), bad_row, first_row, stream);
}

GroupScores Products::minima(std::int64_t begin, std::int64_t count, float2* target, cudaStream_t stream) const {
    const PreparedRows &queries = prepared_queries_.get(), &all = prepared_bank_.get();
    const PreparedRows bank{all.halves + begin * whole_depth(bank_.rows.d), all.weight + begin, all.half_norm + begin,
                            all.extent + begin};
    const std::int64_t padded = whole_tiles(count);
    group_minima(queries, whole_tiles(queries_), bank, padded, bank_.rows.d, target, stream);
    return {target, queries.extent, group_extents_.as<Extent>() + begin / group_rows, group_count(padded),
            ScoreError(bank_.rows.d)};
}

}  // namespace edgead::cuda
