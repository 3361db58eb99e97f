// Products step of a search: for every query, the smallest scores of groups of bank rows, each within a proven error
// bound. The next step measures the rows that can still be among the nearest.
#pragma once

#include <cstdint>

#include "device.h"
#include "nearest_kernels.h"

namespace edgead::cuda {

// A bank on the device, which stays there as long as what is made of it.
struct Bank {
    Rows rows;
    Frame frame;   // of rounding.cuh
    int exponent;  // of its rows to halves
};

// Rows prepared for products, in memory of their own.
class PreparedMemory {
public:
    void reserve(std::int64_t padded, int d);
    const PreparedRows& get() const { return rows_; }

private:
    DeviceMemory memory_;
    PreparedRows rows_{};
};

// The rows of a bank, and of one part of the queries, as halves. One stream at a time.
class Products {
public:
    // Allocates what the bank needs, and loads every kernel that will be launched.
    explicit Products(const Bank& bank);
    void prepare_bank(cudaStream_t stream);

    // Allocates what parts of up to so many queries, whole tiles, need. Nothing is allocated or loaded after it.
    void reserve(std::int64_t padded_queries);

    // The part of queries that the next `minima` are of. A query that is not finite gets the norm NaN, and lowers
    // bad_row, where that is not null, to first_row + its number; one for which scores say nothing gets an infinite
    // norm.
    void prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream);

    // Puts the kernel into the stream that writes the minima of the bank's rows from `begin` on, a whole tile. `target`
    // has room for a sixteenth of the padded rows a query. What is returned is what `target` will hold.
    GroupScores minima(std::int64_t begin, std::int64_t count, float2* target, cudaStream_t stream) const;

private:
    Bank bank_;
    PreparedMemory prepared_bank_, prepared_queries_;
    std::int64_t queries_ = 0;  // of the part that was prepared
    DeviceMemory group_extents_;
};

}  // namespace edgead::cuda
