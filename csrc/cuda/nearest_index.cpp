#include "nearest_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "layout.cuh"

namespace edgead::cuda {
namespace {

// Of one query.
std::size_t minima_bytes(std::int64_t rows) {
    return static_cast<std::size_t>(group_count(whole_tiles(rows))) * sizeof(float2);
}

// The frame in which products are formed (rounding.cuh). Any centre is right; the mean cancels least.
struct HostFrame {
    std::vector<float> centre;
    int exponent;
    int bank_exponent;  // of its rows to halves
};

HostFrame frame_of(const float* rows, std::size_t n, std::size_t d) {
    std::vector<double> sum(d, 0.0);
    std::vector<float> lowest(rows, rows + d), highest(lowest);
    float peak = 0;
    for (std::size_t i = 0; i < n; ++i) {
        bool finite = true;
        for (std::size_t j = 0; j < d; ++j) {
            const float value = rows[i * d + j];
            finite = finite && is_finite(value);
            peak = std::max(peak, std::fabs(value));
            sum[j] += value;
            lowest[j] = std::min(lowest[j], value);
            highest[j] = std::max(highest[j], value);
        }
        if (!finite)
            throw std::invalid_argument("memory_bank has NaN or Inf in row " + std::to_string(i) +
                                        ": remove that row or fix what produced it");
    }
    HostFrame frame{std::vector<float>(d), peak > 0 ? -std::ilogb(peak) : 0, 0};
    float centred_peak = 0;
    for (std::size_t j = 0; j < d; ++j) {
        frame.centre[j] = static_cast<float>(std::ldexp(sum[j] / static_cast<double>(n), frame.exponent));
        for (const float value : {lowest[j], highest[j]})
            centred_peak = std::max(centred_peak, std::fabs(std::ldexp(value, frame.exponent) - frame.centre[j]));
    }
    frame.bank_exponent = row_exponent(centred_peak);
    return frame;
}

}  // namespace

NearestIndex::NearestIndex(const float* bank, std::size_t m, std::size_t d, std::size_t work_bytes)
    : device_(current_device()), m_(static_cast<std::int64_t>(m)), d_(static_cast<int>(d)) {
    const std::size_t fit = work_bytes / minima_bytes(m_);
    most_queries_ = std::max<std::size_t>(tile_rows, fit / tile_rows * tile_rows);
    const HostFrame frame = frame_of(bank, m, d);
    bank_.grow(m * d * sizeof(float));
    centre_.grow(d * sizeof(float));
    bad_row_.grow(sizeof(std::int32_t));
    load_measure_kernel();
    const WaitsAtEnd waits(stream_.get());
    copy_in(bank_.data(), bank, m * d * sizeof(float), stream_.get());
    copy_in(centre_.data(), frame.centre.data(), d * sizeof(float), stream_.get());
    const int half = frame.exponent / 2;
    const Frame on_device{centre_.as<float>(), {power_of_two(half), power_of_two(frame.exponent - half)}};
    products_ = std::make_unique<Products>(Bank{{bank_.as<float>(), m_, d_}, on_device, frame.bank_exponent});
    products_->prepare_bank(stream_.get());
    wait(stream_.get());
}

std::size_t NearestIndex::part_queries(std::size_t n) const {
    return std::min<std::size_t>(most_queries_, whole_tiles(static_cast<std::int64_t>(n)));
}

void NearestIndex::reserve_work(std::size_t n) {
    const std::size_t part = part_queries(n);
    if (part <= reserved_queries_) return;
    turns_.wait();  // it still uses what is released now
    products_->reserve(static_cast<std::int64_t>(part));
    minima_.grow(part * minima_bytes(m_));
    reserved_queries_ = part;
}

void NearestIndex::reserve(std::size_t n) {
    const OnDevice guard(device_);
    const Turns::Turn turn(turns_, stream_.get());
    reserve_work(n);
}

void NearestIndex::search_device(const float* features, std::size_t n, const Neighbours& result, std::int32_t* bad_row,
                                 cudaStream_t stream) {
    const OnDevice guard(device_);
    if (bad_row) check(cudaMemsetAsync(bad_row, 0xff, sizeof *bad_row, stream), "clearing memory");  // -1
    if (n == 0) return;
    const Turns::Turn turn(turns_, stream);
    reserve_work(n);
    for (std::size_t first = 0, part = part_queries(n); first < n; first += part) {
        const Rows queries = prepare_part(features, first, std::min(part, n - first), bad_row, stream);
        const std::size_t offset = first * static_cast<std::size_t>(result.k);
        search_range(queries, 0, m_, {result.distance + offset, result.index + offset, result.k}, stream);
    }
}

Rows NearestIndex::prepare_part(const float* features, std::size_t first, std::size_t count, std::int32_t* bad_row,
                                cudaStream_t stream) {
    const Rows rows{features + first * dimension(), static_cast<std::int64_t>(count), d_};
    products_->prepare(rows, reinterpret_cast<unsigned*>(bad_row), static_cast<unsigned>(first), stream);
    return rows;
}

// Searches `count` rows of the bank from `begin` on, a whole tile, for the part that was prepared.
void NearestIndex::search_range(const Rows& queries, std::int64_t begin, std::int64_t count, const Neighbours& result,
                                cudaStream_t stream) {
    const GroupScores scores = products_->minima(begin, count, minima_.as<float2>(), stream);
    measure_candidates(queries, {bank_.as<float>() + begin * d_, count, d_}, scores, result, stream);
}

NearestIndex::Scored NearestIndex::group_scores(const float* features, std::size_t n) {
    const OnDevice guard(device_);
    const std::lock_guard<std::mutex> lock(host_mutex_);
    const Turns::Turn turn(turns_, stream_.get());
    reserve_work(n);
    features_.grow(n * dimension() * sizeof(float));
    const WaitsAtEnd waits(stream_.get());
    copy_in(features_.data(), features, n * dimension() * sizeof(float), stream_.get());
    prepare_part(features_.as<float>(), 0, n, nullptr, stream_.get());
    const GroupScores scores = products_->minima(0, m_, minima_.as<float2>(), stream_.get());
    const auto count = static_cast<std::size_t>(scores.count);
    Scored found{std::vector<float2>(n * count), std::vector<float>(n * count), std::vector<float>(dimension()),
                 scores.count};
    std::vector<Extent> queries(n), groups(count);
    copy_out(found.minima.data(), scores.minima, n * count * sizeof(float2), stream_.get());
    copy_out(found.centre.data(), centre_.data(), dimension() * sizeof(float), stream_.get());
    copy_out(queries.data(), scores.queries, n * sizeof(Extent), stream_.get());
    copy_out(groups.data(), scores.groups, count * sizeof(Extent), stream_.get());
    wait(stream_.get());
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t g = 0; g < count; ++g) found.bounds[i * count + g] = scores.error.bound(queries[i], groups[g]);
    return found;
}

std::size_t NearestIndex::search(const float* features, std::size_t n, const Neighbours& result) {
    if (n == 0) return 0;
    const OnDevice guard(device_);
    const std::lock_guard<std::mutex> lock(host_mutex_);
    const std::size_t values = n * dimension() * sizeof(float), results = n * static_cast<std::size_t>(result.k);
    features_.grow(values);
    distance_.grow(results * sizeof(float));
    index_.grow(results * sizeof(std::int32_t));
    std::int32_t bad_row = -1;
    const WaitsAtEnd waits(stream_.get());
    copy_in(features_.data(), features, values, stream_.get());
    search_device(features_.as<float>(), n, {distance_.as<float>(), index_.as<std::int32_t>(), result.k},
                  bad_row_.as<std::int32_t>(), stream_.get());
    copy_out(result.distance, distance_.data(), results * sizeof(float), stream_.get());
    copy_out(result.index, index_.data(), results * sizeof(std::int32_t), stream_.get());
    copy_out(&bad_row, bad_row_.data(), sizeof bad_row, stream_.get());
    wait(stream_.get());
    return bad_row < 0 ? n : static_cast<std::size_t>(bad_row);
}

std::size_t NearestIndex::search_groups(const float* features, std::size_t n, const std::vector<std::int64_t>& sizes,
                                        float* distance) {
    if (n == 0) return 0;
    const OnDevice guard(device_);
    const std::lock_guard<std::mutex> lock(host_mutex_);
    const std::size_t values = n * dimension() * sizeof(float), results = n * sizes.size() * sizeof(float);
    features_.grow(values);
    distance_.grow(results);
    index_.grow(n * sizeof(std::int32_t));
    std::int32_t bad_row = -1;
    const WaitsAtEnd waits(stream_.get());
    copy_in(features_.data(), features, values, stream_.get());
    check(cudaMemsetAsync(bad_row_.data(), 0xff, sizeof bad_row, stream_.get()), "clearing memory");
    {
        const Turns::Turn turn(turns_, stream_.get());
        reserve_work(n);
        for (std::size_t first = 0, part = part_queries(n); first < n; first += part) {
            const Rows queries = prepare_part(features_.as<float>(), first, std::min(part, n - first),
                                              bad_row_.as<std::int32_t>(), stream_.get());
            std::int64_t begin = 0;
            float* target = distance_.as<float>() + first;
            for (std::int64_t size : sizes) {
                search_range(queries, begin, size, {target, index_.as<std::int32_t>(), 1}, stream_.get());
                begin += size;
                target += n;
            }
        }
    }
    copy_out(distance, distance_.data(), results, stream_.get());
    copy_out(&bad_row, bad_row_.data(), sizeof bad_row, stream_.get());
    wait(stream_.get());
    return bad_row < 0 ? n : static_cast<std::size_t>(bad_row);
}

}  // namespace edgead::cuda
