// The step "products" of a search, in variants: for every query, the smallest scores of groups of rows of the bank,
// each off by no more than a proven bound. What can still be among the nearest is measured behind it, in the same way
// for all variants, so that none of them changes a result.
//
// One variant is one entry of the table in products.cpp. It gives
//   name     for benchmarks, warnings, and tests that ask for it
//   works    whether a card has its instructions and its memory, and it can take the bank
//   suits    whether it is worth its while there. The first entry that does is taken, so the fastest comes first. The
//            last one, "plain", does always, and is the judge of the others.
//   make     allocates, loads every kernel that will be launched, and only then, as memory that goes must not be in use,
//            puts what prepares the bank into the stream; returns the bank's Products
// When an index is made, a variant other than "plain" is checked once against that on the card (choose_products), and
// given up, with a warning, where it differs by more than its bounds or a call is refused: that costs speed and no
// result. An illegal address ends the context, and a kernel that hangs is waited for: these are not survived.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "nearest_kernels.h"

namespace edgead::cuda {

// A bank on the device, which stays there as long as what is made of it.
struct Bank {
    Rows rows;
    Frame frame;   // of rounding.cuh
    int exponent;  // of its rows to halves
};

struct Problem {
    std::int64_t rows;
    int d;
    bool in_ranges;  // searched range by range
};

// The rows of a bank, and of one part of the queries, as a variant has them. One stream at a time.
class Products {
public:
    virtual ~Products() = default;

    // Allocates what parts of up to so many queries, whole tiles, need. Nothing is allocated or loaded after it.
    virtual void reserve(std::int64_t padded_queries) = 0;

    // The part of queries that the next `minima` are of. A query that is not finite gets the norm NaN, and lowers
    // bad_row, where that is not null, to first_row + its number; one for which scores say nothing gets an infinite
    // norm.
    virtual void prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream) = 0;

    // Lets `minima` go through the bank as for a part of so many queries, until the next `prepare`: for the check, whose
    // queries are few.
    virtual void assume(std::int64_t) {}

    // Puts the kernels into the stream that write the minima of the bank's rows from `begin` on, a whole tile, for a
    // search of k neighbours; `begin` is 0 and `count` all of them where the problem is not in ranges. `target` has
    // room for a sixteenth of the padded rows a query. What is returned is what `target` will hold: see GroupScores.
    virtual GroupScores minima(std::int64_t begin, std::int64_t count, int k, float2* target, cudaStream_t stream) = 0;
};

struct Variant {
    const char* name;
    bool (*works)(const Card& card, const Problem& problem);
    bool (*suits)(const Card& card, const Problem& problem);
    std::unique_ptr<Products> (*make)(const Bank& bank, cudaStream_t stream);
};

const std::vector<Variant>& variants();

struct Chosen {
    std::unique_ptr<Products> products;
    const char* name;
    std::string given_up;  // names the variants that were given up, and why; empty if none was
};

// Makes the first variant that suits and passes the check, or the one that is named, as it is. `rows`: the bank on the
// host. Waits for the stream. Throws std::invalid_argument if no variant of that name works, OutsideError where memory
// or a capture forbids the check, and names the variants that were given up if the last one fails, too.
Chosen choose_products(const std::string& name, const Bank& bank, const float* rows, bool in_ranges,
                       cudaStream_t stream);

}  // namespace edgead::cuda
