// Exact nearest rows of a memory bank on the GPU, as csrc/nearest/nearest.h defines them, for host or device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "device.h"
#include "layout.cuh"
#include "products.h"

namespace edgead::cuda {

class NearestIndex {
public:
    static constexpr int max_k = most_neighbours;
    static constexpr std::size_t max_dimension = std::size_t{1} << 20;      // keeps the error bound's d 2^-24 small
    static constexpr std::size_t max_rows = (std::size_t{1} << 31) - 1024;  // row numbers are int32, padding included

    // Copies `bank` (m, d; host memory) to the current device, where the index stays. Queries are searched in parts
    // whose minima, half a byte per query and row, fit into work_bytes, but at least in whole tiles.
    // Throws std::invalid_argument, naming the row, if the bank holds NaN or Inf.
    NearestIndex(const float* bank, std::size_t m, std::size_t d, std::size_t work_bytes);

    std::size_t rows() const { return m_; }
    std::size_t dimension() const { return static_cast<std::size_t>(d_); }

    // Allocates what searches of up to n queries need, so that they allocate nothing and can be captured in a graph.
    void reserve(std::size_t n);

    // On device pointers, in order in `stream`, without waiting: features (n, d) -> distance and index (n, k),
    // ascending by distance, then by row. A query that holds NaN or Inf gets distance NaN and index -1; bad_row, where
    // not null, gets the number of the first one, or -1. Searches in different streams take turns on the device.
    void search_device(const float* features, std::size_t n, const Neighbours& result, std::int32_t* bad_row,
                       cudaStream_t stream);

    // On host memory. Returns n, or the first row of `features` that holds NaN or Inf; the results are then
    // meaningless. May be called from several threads at once.
    std::size_t search(const float* features, std::size_t n, const Neighbours& result);

    // Distances to the nearest row of each group of the bank: (groups, n), on host memory, otherwise as search.
    // `sizes`: the rows of each group, in the order of the bank, multiples of group_multiple that add up to its rows.
    static constexpr std::int64_t group_multiple = tile_rows;
    std::size_t search_groups(const float* features, std::size_t n, const std::vector<std::int64_t>& sizes,
                              float* distance);

    // For tests: what the products say of features on host memory, one part of them, and the frame's centre.
    struct Scored {
        std::vector<float2> minima;  // (n, count)
        std::vector<float> bounds;   // (n, count) error.bound
        std::vector<float> centre;   // (d)
        int count;
    };
    std::size_t most_queries() const { return most_queries_; }  // of one part
    Scored group_scores(const float* features, std::size_t n);

private:
    Rows prepare_part(const float* features, std::size_t first, std::size_t count, std::int32_t* bad_row,
                      cudaStream_t stream);
    void search_range(const Rows& queries, std::int64_t begin, std::int64_t count, const Neighbours& result,
                      cudaStream_t stream);
    std::size_t part_queries(std::size_t n) const;  // padded
    void reserve_work(std::size_t n);

    int device_;
    std::int64_t m_;
    int d_;
    std::size_t most_queries_;  // in one part
    Stream stream_;             // of searches on host memory
    DeviceMemory bank_, centre_;

    std::unique_ptr<Products> products_;
    DeviceMemory minima_;
    std::size_t reserved_queries_ = 0;  // that fit into the two above

    std::mutex host_mutex_;  // guards the copies of host memory
    DeviceMemory features_, distance_, index_, bad_row_;

    Turns turns_;  // guards products_ and minima_; the last, so that it waits before any memory goes
};

}  // namespace edgead::cuda
