#include "products.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "code_products.h"
#include "half_products.h"
#include "layout.cuh"
#include "walking_products.h"

namespace edgead::cuda {
namespace {

bool always(const Card&, const Problem&) { return true; }

// Queries of the check, so many that there is a full tile and one with few, or with half of them; neighbours; and for
// how many queries the way through the bank is.
struct Probe {
    std::int64_t queries;
    int k;
    std::int64_t assumed;
};
constexpr Probe kinds[] = {
    {tile_rows + 16, 1, 1 << 20},
    {tile_rows + 16, most_neighbours, 1},
    {tile_rows + 64, 1, 784},
    {tile_rows + 64, most_neighbours, 1 << 20},
};
constexpr std::int64_t most_probes = tile_rows + 64;

// Rows of the bank, points between two of them, one that is far away, and one that is not finite.
std::vector<float> probes(const float* rows, std::int64_t m, std::int64_t d) {
    std::vector<float> queries(static_cast<std::size_t>(most_probes * d));
    for (std::int64_t i = 0; i < most_probes; ++i) {
        const float *one = rows + i * m / most_probes * d, *other = rows + (i * 7919 + 1) % m * d;
        for (std::int64_t j = 0; j < d; ++j) queries[i * d + j] = i % 2 == 0 ? one[j] : one[j] / 2 + other[j] / 2;
    }
    std::fill_n(queries.begin() + 3 * d, d, 1e30f);
    queries[8 * d - 1] = std::numeric_limits<float>::quiet_NaN();
    return queries;
}

// Why the products are not to be used; empty if they agree with plain ones.
std::string difference(Products& products, const Bank& bank, const float* rows, cudaStream_t stream) {
    const std::vector<float> queries = probes(rows, bank.rows.count, bank.rows.d);
    const std::size_t bytes =
        2 * tile_rows * static_cast<std::size_t>(group_count(whole_tiles(bank.rows.count), 1)) * sizeof(float2);
    const DeviceMemory there(queries.size() * sizeof(float)), expected(bytes), found(bytes),
        counts(3 * sizeof(unsigned));
    auto* const count = counts.as<unsigned>();  // of what differs; the first bad query of either
    unsigned seen[3];
    // What has the bank as halves is judged by plain products of these.
    std::unique_ptr<HalfProducts> other;
    auto* plain = dynamic_cast<HalfProducts*>(&products);
    if (!plain) {
        other = std::make_unique<HalfProducts>(bank);
        other->prepare_bank(stream);
        plain = other.get();
    }
    const WaitsAtEnd waits(stream);
    copy_in(there.data(), queries.data(), queries.size() * sizeof(float), stream);
    check(cudaMemsetAsync(count, 0, sizeof(unsigned), stream), "clearing memory");
    check(cudaMemsetAsync(count + 1, 0xff, 2 * sizeof(unsigned), stream), "clearing memory");
    plain->reserve(2 * tile_rows);
    products.reserve(2 * tile_rows);
    plain->prepare({there.as<float>(), most_probes, bank.rows.d}, count + 1, 0, stream);
    const GroupScores known = plain->HalfProducts::minima(0, bank.rows.count, 1, expected.as<float2>(), stream);
    for (const Probe& probe : kinds) {
        products.prepare({there.as<float>(), probe.queries, bank.rows.d}, count + 2, 0, stream);
        products.assume(probe.assumed);
        const GroupScores scores = products.minima(0, bank.rows.count, probe.k, found.as<float2>(), stream);
        count_differing(scores, known, bank.rows.count, probe.queries, count, stream);
    }
    copy_out(seen, count, sizeof seen, stream);
    wait(stream);
    if (seen[0] == 0 && seen[1] == seen[2]) return "";
    return seen[0] > 0 ? std::to_string(seen[0]) + " scores are farther from those of \"plain\" than they can be"
                       : "it does not find the query that is not finite";
}

}  // namespace

const std::vector<Variant>& variants() {
    static const std::vector<Variant> table{
        {"int8", codes_work, codes_suit, make_codes},
        {"walking", walking_works, always, make_walking},
        {"plain", always, always, make_plain},
    };
    return table;
}

Chosen choose_products(const std::string& name, const Bank& bank, const float* rows, bool in_ranges,
                       cudaStream_t stream) {
    const Card card = current_card();
    const Problem problem{bank.rows.count, bank.rows.d, in_ranges};
    std::string given_up;
    for (const Variant& variant : variants()) {
        if (!variant.works(card, problem) || (name.empty() ? !variant.suits(card, problem) : name != variant.name))
            continue;
        const bool last = &variant == &variants().back();
        std::string reason;
        try {
            if (last || !name.empty()) return {variant.make(bank, stream), variant.name, given_up};
            std::unique_ptr<Products> products = variant.make(bank, stream);
            const WaitsAtEnd waits(stream);
            reason = difference(*products, bank, rows, stream);
            if (reason.empty()) return {std::move(products), variant.name, given_up};
        } catch (const OutsideError&) {
            throw;
        } catch (const std::runtime_error& error) {
            if (last && !given_up.empty())  // what ended the context is not the last one's
                throw std::runtime_error(error.what() + ("; given up before: " + given_up));
            if (last || !name.empty()) throw;
            reason = error.what();
        }
        given_up += (given_up.empty() ? "" : "; ") + std::string(variant.name) + ": " + reason;
    }
    throw std::invalid_argument("no variant of the products is named " + name + " and suits this card and bank");
}

}  // namespace edgead::cuda
