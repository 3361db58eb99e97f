#include "code_products.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "layout.cuh"

namespace edgead::cuda {
namespace {

// From how many rows on the time that products save is more than that of the rows that are measured beyond those that
// halves leave; a model says so (benchmarks/RESULTS.md). Int8 has four times the rate of halves that are summed in
// float32 on GeForce, and twice on the other cards: Orin, A10, L4, RTX A6000.
constexpr int capabilities[] = {86, 87, 89, 120};
constexpr std::int64_t geforce_rows = 2048, other_rows = 8192;

}  // namespace

bool codes_work(const Card&, const Problem& problem) {
    return problem.d <= most_turned && !problem.in_ranges;  // each range would have its rows measured
}

bool codes_suit(const Card& card, const Problem& problem) {
    return std::count(std::begin(capabilities), std::end(capabilities), card.capability) > 0 &&
           problem.rows >= (card.geforce ? geforce_rows : other_rows);
}

void CodedMemory::reserve(std::int64_t padded, int depth) {
    const auto n = static_cast<std::size_t>(padded), codes = n * static_cast<std::size_t>(depth);
    memory_.grow(codes + n * (sizeof(Step) + sizeof(Extent) + sizeof(float)));
    char* bytes = memory_.as<char>();
    rows_.codes = memory_.as<std::int8_t>();
    rows_.step = reinterpret_cast<Step*>(bytes + codes);
    rows_.extent = reinterpret_cast<Extent*>(rows_.step + n);
    rows_.half_norm = reinterpret_cast<float*>(rows_.extent + n);
}

CodeProducts::CodeProducts(const Bank& bank, cudaStream_t stream)
    : bank_(bank), depth_((bank.rows.d + tile_codes - 1) / tile_codes * tile_codes) {
    const std::int64_t padded = whole_tiles(bank.rows.count);
    const int groups = group_count(padded, 1);
    load_code_products();
    coded_bank_.reserve(padded, depth_);
    steps_.grow(static_cast<std::size_t>(groups) * sizeof(Step));
    least_step_.grow(sizeof(float));
    group_extents_.grow(static_cast<std::size_t>(groups) * sizeof(Extent));
    const CodedRows& coded = coded_bank_.get();
    check(cudaMemsetAsync(least_step_.data(), 0, sizeof(float), stream), "clearing memory");
    // With steps of their own first, to know those of the groups.
    code_rows(bank.rows, padded, depth_, bank.frame, nullptr, nullptr, coded, nullptr, 0, stream);
    group_steps(coded, bank.rows.count, groups, steps_.as<Step>(), least_step_.as<float>(), stream);
    code_rows(bank.rows, padded, depth_, bank.frame, steps_.as<Step>(), nullptr, coded, nullptr, 0, stream);
    group_extents(coded.extent, padded, 1, group_extents_.as<Extent>(), stream);
}

void CodeProducts::reserve(std::int64_t padded_queries) { coded_queries_.reserve(padded_queries, depth_); }

void CodeProducts::prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream) {
    queries_ = queries.count;
    code_rows(queries, whole_tiles(queries_), depth_, bank_.frame, nullptr, least_step_.as<float>(),
              coded_queries_.get(), bad_row, first_row, stream);
}

GroupScores CodeProducts::minima(std::int64_t, std::int64_t count, int, float2* target, cudaStream_t stream) {
    const CodedRows& queries = coded_queries_.get();
    const std::int64_t padded = whole_tiles(count);
    const int d = bank_.rows.d;
    code_minima(queries, whole_tiles(queries_), coded_bank_.get(), padded, steps_.as<Step>(), d, target, stream);
    return {target, queries.extent, group_extents_.as<Extent>(), group_count(padded, 1), 1, code_error(d)};
}

std::unique_ptr<Products> make_codes(const Bank& bank, cudaStream_t stream) {
    return std::make_unique<CodeProducts>(bank, stream);
}

}  // namespace edgead::cuda
