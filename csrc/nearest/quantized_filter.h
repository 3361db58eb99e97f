// Pre-scan: nearest rows by a scan of 8-bit codes that leaves few rows to measure exactly; see docs/kernels.md.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "nearest/neighbour.h"
#include "nearest/quantized_bank.h"

namespace edgead {

struct QuantizedQuery;
struct QuantizedTile;

// Shared by the tasks of one search: where most queries have too many rows left, no task goes on trying.
class PrescanGate {
public:
    bool open() const { return 2 * failed_.load(std::memory_order_relaxed) <= tried_.load(std::memory_order_relaxed); }
    void count(std::size_t tried, std::size_t failed) {
        tried_.fetch_add(tried, std::memory_order_relaxed);
        failed_.fetch_add(failed, std::memory_order_relaxed);
    }

private:
    std::atomic<std::size_t> tried_{0}, failed_{0};
};

class QuantizedFilter {
public:
    static constexpr std::size_t max_dimension = 4096;  // of the codes, and of the bank: see ScanKernels::encode

    // As QuantizedBank.
    QuantizedFilter(const Kernels& kernels, const Centring& centring, const Rows& bank, const Rows& directions)
        : bank_(kernels, centring, bank, directions) {}

    int tile_queries() const { return bank_.scan.tile_queries; }

    // The queries of one thread in codes, kept between searches so that a frame allocates nothing. Of one filter at a
    // time.
    struct Scratch;
    static Scratch& scratch();

    // Prepares queries, which must outlive the searches of them; none where the gate is closed.
    void load(Scratch& scratch, const Rows& features, const PrescanGate& gate) const;

    // Finds the k nearest rows of `range` (it begins with a panel) for the `count` queries that were loaded; what
    // `found` points to is fresh. Adds to `left` every query that has too many rows to measure, or that is not finite:
    // its result is then meaningless.
    void search(Scratch& scratch, std::size_t count, int k, RowRange range, NearestRows found, PrescanGate& gate,
                std::vector<std::size_t>& left) const;

private:
    void scan(Scratch& scratch, std::size_t first, std::size_t n, RowRange rows) const;
    void look(Scratch& scratch, std::size_t i, int k, RowRange rows, Neighbour* best) const;
    void seed(Scratch& scratch, std::size_t i, int k, RowRange rows, const std::int16_t* peaks, Neighbour* best) const;
    std::size_t select(Scratch& scratch, std::size_t i, std::int16_t score, RowRange rows, std::size_t limit) const;
    void compare_codes(Scratch& scratch, std::size_t i, std::size_t count) const;
    std::int16_t threshold(const QuantizedTile& tile, const QuantizedQuery& query) const;
    void measure(QuantizedQuery& query, std::int32_t row, int k, Neighbour* best) const;
    void look_again(Scratch& scratch, std::size_t i, int k, std::size_t count, Neighbour* best) const;

    QuantizedBank bank_;
};

}  // namespace edgead
