// How the blocks of the walking products go through a bank: what each one does, and what it keeps in shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device.h"
#include "layout.cuh"
#include "nearest_kernels.h"

namespace edgead::cuda {

// Of the kernel that fit a multiprocessor, by their registers.
constexpr int blocks_per_multiprocessor = 2;

// What each of these blocks may have at most, whatever the bank.
std::size_t most_shared_bytes(const Card& card);

struct Walk {
    int tiles;           // of the bank, of one group
    int groups;          // of one block, one after another
    int trimmed_groups;  // of a block whose queries are those of a last tile that is not full
    int stages;          // of copies: 2 or 3
    int query_places;    // in shared memory: for all dimensions of a tile of queries, or as many as stages

    std::size_t shared_bytes() const;
};

// Tiles of a group for k neighbours: two of several nearest rows in one group cost all of it.
constexpr int group_tiles(int k) { return k == 1 ? most_tiles : 1; }

// The walk in which the multiprocessor that has most to do has least. A group has at most `most_group_tiles`.
Walk choose_walk(const Card& card, std::int64_t queries, std::int64_t padded_bank, int d, int most_group_tiles);

// Whether there is a walk: the dimensions take two steps, and the card has the memory.
bool walks(const Card& card, int d);

// As group_minima, (padded queries, group_count(padded_bank, walk.tiles)).
void walking_minima(const PreparedRows& queries, std::int64_t query_count, const PreparedRows& bank,
                    std::int64_t padded_bank, int d, const Walk& walk, bool early, float2* minima, cudaStream_t stream);

// Whether it can begin early (launch.cuh).
bool load_walking_kernel(const Card& card);

}  // namespace edgead::cuda
