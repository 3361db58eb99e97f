// Products of halves by blocks that walk over the bank (walking_products.cu).
#pragma once

#include "half_products.h"

namespace edgead::cuda {

// Groups are larger where one neighbour is asked for: two of several nearest rows in a group cost all of it.
class WalkingProducts : public HalfProducts {
public:
    WalkingProducts(const Bank& bank, cudaStream_t stream);
    GroupScores minima(std::int64_t begin, std::int64_t count, int k, float2* target, cudaStream_t stream) override;

private:
    Card card_;
    DeviceMemory extents_[most_slot_digits - slot_digits(1) + 1];  // of groups of 1, 2 and 4 tiles
};

bool walking_suits(const Card& card, const Problem& problem);
std::unique_ptr<Products> make_walking(const Bank& bank, cudaStream_t stream);

}  // namespace edgead::cuda
