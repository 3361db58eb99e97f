// Nearest rows by a scan of 8-bit codes that leaves few rows to measure.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "coded_bank.h"
#include "neighbour.h"
#include "projection.h"

namespace edgead {

// What the tasks of one search tell each other: one whose queries mostly have too many rows left stops trying.
class Luck {
public:
    bool worth_trying() const {
        return 2 * failed_.load(std::memory_order_relaxed) <= tried_.load(std::memory_order_relaxed);
    }
    void count(std::size_t tried, std::size_t failed) {
        tried_.fetch_add(tried, std::memory_order_relaxed);
        failed_.fetch_add(failed, std::memory_order_relaxed);
    }

private:
    std::atomic<std::size_t> tried_{0}, failed_{0};
};

class Prescan {
public:
    static constexpr std::size_t max_dimension = 4096;   // of the codes, and of the bank: see ScanKernels::encode

    // `projection` (p, d) has orthonormal rows; p = 0: the codes are of all d dimensions. The bank, the centring and
    // the kernels must outlive this. Throws std::invalid_argument for rows that are not orthonormal.
    Prescan(const ScanKernels& scan, const NearestKernels& nearest, const Centring& centring, const float* bank,
            std::size_t m, std::size_t d, const float* projection, std::size_t p);

    int tile_queries() const { return scan_.tile_queries; }

    // Finds the k nearest rows of `range` (it begins with a panel) for n queries; those of query i go to best[i *
    // stride + 0..k), which are fresh. Adds to `left` every i that has too many rows to measure, or that is not
    // finite: its result is then meaningless.
    void search(const float* features, std::size_t n, int k, RowRange range, Luck& luck, Neighbour* best,
                std::size_t stride, std::vector<std::size_t>& left) const;

private:
    struct Query;
    struct Tile;
    struct Scratch;

    void load(Scratch& scratch, const float* features, std::size_t n) const;
    void load_tile(Scratch& scratch, std::size_t tile, std::size_t n) const;
    void load_full(Query& query, const float* x, std::uint8_t* codes) const;
    void scan(Scratch& scratch, std::size_t first, std::size_t n, RowRange rows) const;
    void look(Scratch& scratch, std::size_t i, int k, RowRange rows, Neighbour* best) const;
    void seed(Scratch& scratch, std::size_t i, int k, RowRange rows, const std::int16_t* peaks, Neighbour* best) const;
    const std::int16_t* scores_of(const Scratch& scratch, std::size_t i) const;
    std::size_t select(Scratch& scratch, std::size_t i, std::int16_t score, RowRange rows, std::size_t limit) const;
    void compare_codes(Scratch& scratch, std::size_t i, std::size_t count) const;
    std::int16_t threshold(const Tile& tile, const Query& query) const;
    void measure(Query& query, std::int32_t row, int k, Neighbour* best) const;
    void measure_rows(Scratch& scratch, std::size_t i, int k, std::size_t count, Neighbour* best) const;

    const ScanKernels& scan_;
    const NearestKernels& nearest_;
    const Centring& centring_;
    const float* bank_;
    std::size_t d_;
    Projection projection_;
    CodedBank coded_;
    std::unique_ptr<FullCodes> full_;  // only with a projection
};

}  // namespace edgead
