#include "products.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "code_products.h"
#include "half_products.h"
#include "layout.cuh"

namespace edgead::cuda {
namespace {

bool always(const Card&, const Problem&) { return true; }

// Queries of the check, one tile: rows of the bank, points between two of them, one that is far away, and one that is
// not finite.
std::vector<float> probes(const float* rows, std::int64_t m, std::size_t d) {
    std::vector<float> queries(tile_rows * d);
    for (std::int64_t i = 0; i < tile_rows; ++i) {
        const float *one = rows + i * m / tile_rows * d, *other = rows + (i * m / tile_rows * 7 + i) % m * d;
        float* query = queries.data() + i * d;
        for (std::size_t j = 0; j < d; ++j) query[j] = i % 2 == 0 ? one[j] : one[j] / 2 + other[j] / 2;
    }
    float* last = queries.data() + (tile_rows - 2) * d;
    std::fill(last, last + d, 1e30f);
    last[2 * d - 1] = std::numeric_limits<float>::quiet_NaN();
    return queries;
}

// What two variants must agree in: results of searches of the same queries, and what bounds say of each other.
class Check {
public:
    Check(const Bank& bank, const float* rows, cudaStream_t stream)
        : bank_(bank), stream_(stream), k_(static_cast<int>(std::min<std::int64_t>(most_neighbours, bank.rows.count))) {
        const auto d = static_cast<std::size_t>(bank.rows.d);
        const std::vector<float> queries = probes(rows, bank.rows.count, d);
        queries_.grow(queries.size() * sizeof(float));
        minima_.grow(tile_rows * static_cast<std::size_t>(group_count(whole_tiles(bank.rows.count), 1)) *
                     sizeof(float2));
        results_.grow(result_bytes());
        copy_in(queries_.data(), queries.data(), queries.size() * sizeof(float), stream);
        wait(stream);
    }

    // Distances, then rows, of the one nearest and of the k nearest; then the first query that is not finite.
    std::vector<std::uint32_t> results(Products& products) {
        const Rows queries{queries_.as<float>(), tile_rows, bank_.rows.d};
        std::vector<std::uint32_t> found(result_bytes() / sizeof(std::uint32_t));
        auto* place = results_.as<std::uint32_t>();
        const WaitsAtEnd waits(stream_);
        check(cudaMemsetAsync(results_.data(), 0xff, result_bytes(), stream_), "clearing memory");
        products.reserve(tile_rows);
        products.prepare(queries, place + found.size() - 1, 0, stream_);
        for (const int k : {1, k_}) {
            const GroupScores scores = products.minima(0, bank_.rows.count, k, minima_.as<float2>(), stream_);
            measure_candidates(
                queries, bank_.rows, scores,
                {reinterpret_cast<float*>(place), reinterpret_cast<std::int32_t*>(place) + tile_rows * k, k}, stream_);
            place += 2 * tile_rows * k;
        }
        copy_out(found.data(), results_.data(), result_bytes(), stream_);
        wait(stream_);
        return found;
    }

private:
    std::size_t result_bytes() const {
        return (2 * tile_rows * (1 + static_cast<std::size_t>(k_)) + 1) * sizeof(std::uint32_t);
    }

    const Bank& bank_;
    cudaStream_t stream_;
    int k_;
    DeviceMemory queries_, minima_, results_;
};

}  // namespace

const std::vector<Variant>& variants() {
    static const std::vector<Variant> table{
        {"int8", codes_suit, make_codes},
        {"plain", always, make_plain},
    };
    return table;
}

Chosen choose_products(const std::string& name, const Bank& bank, const float* rows, bool in_ranges,
                       cudaStream_t stream) {
    const Card card = current_card();
    const Problem problem{bank.rows.count, bank.rows.d, in_ranges};
    std::string given_up;
    for (const Variant& variant : variants()) {
        if (name.empty() ? !variant.suits(card, problem) : name != variant.name) continue;
        const bool last = &variant == &variants().back();
        if (last || !name.empty()) return {variant.make(bank, stream), variant.name, given_up};
        try {
            std::unique_ptr<Products> products = variant.make(bank, stream);
            Check checked(bank, rows, stream);
            const std::vector<std::uint32_t> expected = checked.results(*variants().back().make(bank, stream));
            if (checked.results(*products) == expected) return {std::move(products), variant.name, given_up};
            given_up +=
                std::string(given_up.empty() ? "" : "; ") + variant.name + ": its results are not those of plain";
        } catch (const std::runtime_error& error) {
            given_up += std::string(given_up.empty() ? "" : "; ") + variant.name + ": " + error.what();
        }
    }
    throw std::invalid_argument("no variant of the products is named " + name);
}

}  // namespace edgead::cuda
