// Products of halves: the rows of a bank and of queries as halves, and the plain kernel on them.
#pragma once

#include "layout.cuh"
#include "products.h"

namespace edgead::cuda {

// Rows prepared for products of halves, in memory of their own.
class PreparedMemory {
public:
    void reserve(std::int64_t padded, int d);
    const PreparedRows& get() const { return rows_; }

private:
    DeviceMemory memory_;
    PreparedRows rows_{};
};

class HalfProducts : public Products {
public:
    explicit HalfProducts(const Bank& bank);
    virtual void prepare_bank(cudaStream_t stream);
    void reserve(std::int64_t padded_queries) override;
    void prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream) override;
    GroupScores minima(std::int64_t begin, std::int64_t count, int k, float2* target, cudaStream_t stream) override;

protected:
    // Of the bank.
    PreparedRows rows_from(std::int64_t begin) const;

    Bank bank_;
    PreparedMemory prepared_bank_, prepared_queries_;
    std::int64_t queries_ = 0;  // of the part that was prepared

private:
    DeviceMemory group_extents_;
};

std::unique_ptr<Products> make_plain(const Bank& bank, cudaStream_t stream);

}  // namespace edgead::cuda
