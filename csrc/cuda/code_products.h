// Products of 8-bit codes, where these run at two to four times the rate of halves: see codes.h.
#pragma once

#include "codes.h"
#include "products.h"

namespace edgead::cuda {

class CodedMemory {
public:
    void reserve(std::int64_t padded, int depth);
    const CodedRows& get() const { return rows_; }

private:
    DeviceMemory memory_;
    CodedRows rows_{};
};

class CodeProducts : public Products {
public:
    CodeProducts(const Bank& bank, cudaStream_t stream);
    void reserve(std::int64_t padded_queries) override;
    void prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream) override;
    GroupScores minima(std::int64_t begin, std::int64_t count, int k, float2* target, cudaStream_t stream) override;

private:
    Bank bank_;
    int depth_;
    CodedMemory coded_bank_, coded_queries_;
    DeviceMemory steps_, least_step_, group_extents_;
    std::int64_t queries_ = 0;  // of the part that was prepared
};

bool codes_work(const Card& card, const Problem& problem);
bool codes_suit(const Card& card, const Problem& problem);
std::unique_ptr<Products> make_codes(const Bank& bank, cudaStream_t stream);

}  // namespace edgead::cuda
