// Products of halves by blocks that walk over the bank (walking_products.cu).
#pragma once

#include "half_products.h"

namespace edgead::cuda {

class WalkingProducts : public HalfProducts {
public:
    explicit WalkingProducts(const Bank& bank);
    void prepare_bank(cudaStream_t stream) override;
    void prepare(const Rows& queries, unsigned* bad_row, unsigned first_row, cudaStream_t stream) override;
    void assume(std::int64_t queries) override { assumed_ = queries; }
    GroupScores minima(std::int64_t begin, std::int64_t count, int k, float2* target, cudaStream_t stream) override;

private:
    DeviceMemory& extents_of(int tiles) { return extents_[slot_digits(tiles) - slot_digits(1)]; }

    Card card_;
    bool early_ = false;
    std::int64_t assumed_ = 0;
    DeviceMemory extents_[most_slot_digits - slot_digits(1) + 1];  // of groups of 1, 2 and 4 tiles
};

bool walking_works(const Card& card, const Problem& problem);
std::unique_ptr<Products> make_walking(const Bank& bank, cudaStream_t stream);

}  // namespace edgead::cuda
