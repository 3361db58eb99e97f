// Python module edgead._cuda: checks arguments, releases the GIL, calls. edgead.kernels is its interface for host
// arrays, edgead.kernels.cuda that for device pointers, which are integers as in torch's data_ptr() and in TensorRT.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "../shared/arrays.h"
#include "double_single.cuh"
#include "layout.cuh"
#include "nearest_index.h"
#include "resizer.h"
#include "smoother.h"

namespace py = pybind11;
using namespace edgead;
using namespace edgead::cuda;

namespace {

using Address = std::uintptr_t;

template <typename T>
T* pointer(Address address) {
    return reinterpret_cast<T*>(address);
}

cudaStream_t stream_of(Address address) { return pointer<std::remove_pointer_t<cudaStream_t>>(address); }

// Why no kernel of this module runs on the current device; empty if they do.
std::string kernel_problem() {
    const std::string name = device_name(current_device());
    try {
        load_products_kernel();
        return "";
    } catch (const std::runtime_error& error) {
        return name + ", " + error.what();
    }
}

std::unique_ptr<NearestIndex> make_index(const Floats& bank, std::size_t work_bytes) {
    require(bank.ndim() == 2 && bank.shape(0) > 0 && bank.shape(1) > 0, "memory_bank must be (m, d), not empty");
    const std::size_t m = bank.shape(0), d = bank.shape(1);
    require(m <= NearestIndex::max_rows, "memory_bank must have fewer than 2^31 - 1023 rows");
    require(d <= NearestIndex::max_dimension, "d must be at most 2^20");
    const float* data = bank.data();
    py::gil_scoped_release release;
    return std::make_unique<NearestIndex>(data, m, d, work_bytes);
}

// `good`: the first of n features that is not finite, or n.
void require_finite(std::size_t good, py::ssize_t n) {
    if (good < static_cast<std::size_t>(n))
        throw std::invalid_argument("features has NaN or Inf in row " + std::to_string(good) +
                                    ": the network's output is not usable");
}

void require_k(const NearestIndex& index, std::size_t n, int k) {
    require(k >= 1 && k <= NearestIndex::max_k && static_cast<std::size_t>(k) <= index.rows(),
            "k must be from 1 to 16 and at most the number of bank rows");
    require(n < (std::size_t{1} << 31), "there must be fewer than 2^31 features");
}

py::tuple search(NearestIndex& index, const Floats& features, int k) {
    require(features.ndim() == 2 && static_cast<std::size_t>(features.shape(1)) == index.dimension(),
            "features must be (n, d) with the memory bank's d");
    const py::ssize_t n = features.shape(0);
    require_k(index, n, k);
    Floats distance({n, static_cast<py::ssize_t>(k)});
    Ints rows({n, static_cast<py::ssize_t>(k)});
    const float* queries = features.data();
    const Neighbours result{distance.mutable_data(), rows.mutable_data(), k};
    std::size_t good;
    {
        py::gil_scoped_release release;
        good = index.search(queries, n, result);
    }
    require_finite(good, n);
    return py::make_tuple(std::move(distance), std::move(rows));
}

// (minima (n, groups, 2), bounds (n, groups), centre (d)).
py::tuple group_scores(NearestIndex& index, const Floats& features) {
    require(features.ndim() == 2 && static_cast<std::size_t>(features.shape(1)) == index.dimension(),
            "features must be (n, d) with the memory bank's d");
    const auto n = features.shape(0);
    require(n >= 1 && static_cast<std::size_t>(n) <= index.most_queries(), "features must be of one part");
    const NearestIndex::Scored found = index.group_scores(features.data(), static_cast<std::size_t>(n));
    const py::ssize_t count = found.count;
    return py::make_tuple(Floats({n, count, py::ssize_t{2}}, &found.minima.data()->x),
                          Floats({n, count}, found.bounds.data()),
                          Floats(static_cast<py::ssize_t>(found.centre.size()), found.centre.data()));
}

// A bank in groups, each a multiple of group_multiple rows.
class GroupedIndex {
public:
    GroupedIndex(const Floats& bank, std::vector<std::int64_t> sizes)
        : index_(make_index(bank, std::size_t{64} << 20)), sizes_(std::move(sizes)) {
        std::int64_t rows = 0;
        for (std::int64_t size : sizes_) {
            require(size > 0 && size % NearestIndex::group_multiple == 0,
                    "a group must hold rows, a multiple of group_rows");
            rows += size;
        }
        require(rows == bank.shape(0), "the groups must add up to the rows of memory_bank");
    }

    Floats search(const Floats& features) {
        require(features.ndim() == 2 && static_cast<std::size_t>(features.shape(1)) == index_->dimension(),
                "features must be (n, d) with the memory bank's d");
        const auto n = static_cast<std::size_t>(features.shape(0)), groups = sizes_.size();
        require(n < (std::size_t{1} << 31), "there must be fewer than 2^31 features");
        std::vector<float> by_group(n * groups);
        Floats distance({features.shape(0), static_cast<py::ssize_t>(groups)});
        const float* queries = features.data();
        float* target = distance.mutable_data();
        std::size_t good;
        {
            py::gil_scoped_release release;
            good = index_->search_groups(queries, n, sizes_, by_group.data());
            for (std::size_t i = 0; i < n; ++i)
                for (std::size_t g = 0; g < groups; ++g) target[i * groups + g] = by_group[g * n + i];
        }
        require_finite(good, features.shape(0));
        return distance;
    }

private:
    std::unique_ptr<NearestIndex> index_;
    std::vector<std::int64_t> sizes_;
};

void search_device(NearestIndex& index, Address features, std::size_t n, int k, Address distance, Address rows,
                   Address bad_row, Address stream) {
    require_k(index, n, k);
    require(n == 0 || (features && distance && rows), "features, distance and index must be device pointers, found 0");
    const Neighbours result{pointer<float>(distance), pointer<std::int32_t>(rows), k};
    py::gil_scoped_release release;
    index.search_device(pointer<const float>(features), n, result, pointer<std::int32_t>(bad_row), stream_of(stream));
}

std::unique_ptr<Smoother> make_smoother(const Ints& vertical_first, const Floats& vertical_weights, int input_height,
                                        const Ints& horizontal_first, const Floats& horizontal_weights,
                                        int input_width) {
    return std::make_unique<Smoother>(band(vertical_first, vertical_weights, input_height),
                                      band(horizontal_first, horizontal_weights, input_width));
}

float smooth(Smoother& smoother, const Floats& input, Floats& output) {
    require(input.ndim() == 2 && input.shape(0) == smoother.input_height() && input.shape(1) == smoother.input_width(),
            "the input has another shape than the smoother");
    require(output.ndim() == 2 && output.shape(0) == smoother.height() && output.shape(1) == smoother.width(),
            "the output has another shape than the smoother");
    const float* source = input.data();
    float* target = output.mutable_data();
    float largest;
    {
        py::gil_scoped_release release;
        largest = smoother.apply(source, target);
    }
    if (std::isnan(largest)) throw std::invalid_argument("the map holds NaN or Inf: fix what produced it");
    return largest;
}

void smooth_device(Smoother& smoother, Address input, Address output, Address maximum, Address stream) {
    require(input && output && maximum, "input, output and maximum must be device pointers, found 0");
    py::gil_scoped_release release;
    smoother.apply_device(pointer<const float>(input), pointer<float>(output), pointer<float>(maximum),
                          stream_of(stream));
}

// Sums, then first, weights and inputs of the vertical band, then of the horizontal one.
using StepArrays = std::tuple<int, Ints, Floats, int, Ints, Floats, int>;

std::unique_ptr<Resizer> make_resizer(const std::vector<StepArrays>& arrays, int height, int width, int top, int left) {
    require(!arrays.empty(), "a resizer has one step at least");
    std::vector<ResizeStep> steps;
    for (const auto& [sums, first, weights, inputs, column_first, column_weights, columns] : arrays) {
        require(sums >= 0 && sums <= static_cast<int>(Sums::linear), "unknown sums");
        steps.push_back(
            {static_cast<Sums>(sums), band(first, weights, inputs), band(column_first, column_weights, columns)});
    }
    py::gil_scoped_release release;
    return std::make_unique<Resizer>(steps, height, width, top, left);
}

void resize_device(Resizer& resizer, Address source, Address target, Address stream) {
    require(source && target, "source and target must be device pointers, found 0");
    py::gil_scoped_release release;
    resizer.apply_device(pointer<const std::uint8_t>(source), pointer<std::uint8_t>(target), stream_of(stream));
}

// What the prepare kernel makes of a row, number by number on the host: (halves, weight, half_norm, norm, residual).
py::tuple prepare_row(const Floats& row, const Floats& centre, int exponent) {
    require(row.ndim() == 1 && centre.ndim() == 1 && row.shape(0) == centre.shape(0), "row and centre must be (d,)");
    require(exponent >= -127 && exponent <= 149, "the exponent of the scale must be from -127 to 149");
    const auto d = static_cast<int>(row.shape(0));
    const float scale[2] = {power_of_two(exponent / 2), power_of_two(exponent - exponent / 2)};
    float peak = 0, squares = 0, residual_squares = 0;
    for (int i = 0; i < d; ++i) peak = std::fmax(peak, std::fabs(centred(row.at(i), centre.at(i), scale)));
    require(peak < largest_component, "the row is too far from the bank for products");
    const float factor = power_of_two(row_exponent(peak)), weight = power_of_two(-row_exponent(peak));
    Floats halves(row.shape(0));
    for (int i = 0; i < d; ++i) {
        const float value = centred(row.at(i), centre.at(i), scale) * factor;
        const float residual = value - (halves.mutable_at(i) = to_half(value).value);
        squares = std::fmaf(value, value, squares);
        residual_squares = std::fmaf(residual, residual, residual_squares);
    }
    // One chain of d additions, where the kernel has 32 that meet: the room of 32 d.
    const Extent extent = row_extent(squares, residual_squares, weight, sum_room(32 * d));
    return py::make_tuple(halves, weight, 0.5f * squares * weight * weight, extent.norm, extent.residual);
}

float score_error(int d, std::pair<float, float> query, std::pair<float, float> row) {
    return ScoreError(d).bound({query.first, query.second}, {row.first, row.second});
}

// What the measure kernel makes of two rows, lane by lane on the host: (high, low, relative error).
py::tuple squared_distance(const Floats& query, const Floats& row) {
    require(query.ndim() == 1 && row.ndim() == 1 && query.shape(0) == row.shape(0), "query and row must be (d,)");
    DoubleSingle lanes[warp_lanes] = {};
    for (py::ssize_t i = 0; i < query.shape(0); ++i) lanes[i % warp_lanes].add_square(query.at(i), row.at(i));
    for (int step = warp_lanes / 2; step > 0; step /= 2)
        for (int lane = 0; lane < step; ++lane) lanes[lane].add(lanes[lane + step]);
    const DoubleSingle sum = lanes[0].normalised();
    return py::make_tuple(sum.high, sum.low, DoubleSingleError(static_cast<int>(query.shape(0))).relative);
}

// The root as the measure kernel rounds it, and whether float64 may round to another.
py::tuple rounded_root(float high, float low, int d) {
    const DoubleSingleError error(d);
    bool unsure = !error.holds({high, low});
    const float root = unsure ? 0 : error.root({high, low}, unsure);
    return py::make_tuple(root, unsure);
}

// Device memory for those who have no other library for it.
void copy_from_host(DeviceMemory& memory, const py::buffer& source) {
    const py::buffer_info info = source.request();
    require(PyBuffer_IsContiguous(info.view(), 'C') != 0, "the array must be in C order");
    const auto bytes = static_cast<std::size_t>(info.size * info.itemsize);
    require(bytes <= memory.bytes(), "the array is larger than the device memory");
    py::gil_scoped_release release;
    copy_in(memory.data(), info.ptr, bytes, nullptr);
    wait(nullptr);
}

void copy_to_host(const DeviceMemory& memory, const py::buffer& target) {
    const py::buffer_info info = target.request(true);
    require(PyBuffer_IsContiguous(info.view(), 'C') != 0, "the array must be in C order");
    const auto bytes = static_cast<std::size_t>(info.size * info.itemsize);
    require(bytes <= memory.bytes(), "the array is larger than the device memory");
    py::gil_scoped_release release;
    copy_out(info.ptr, memory.data(), bytes, nullptr);
    wait(nullptr);
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.doc() = "CUDA kernels of edgead; edgead.kernels and edgead.kernels.cuda are the interface.";
    m.def("device_count", &device_count);
    m.def("device_problem", &device_problem);
    m.def("kernel_problem", &kernel_problem);
    m.def("device_name", &device_name, py::arg("device"));
    m.def(
        "synchronize", [](Address stream) { wait(stream_of(stream)); }, py::arg("stream"),
        py::call_guard<py::gil_scoped_release>());

    py::class_<NearestIndex>(m, "NearestIndex")
        .def(py::init(&make_index), py::arg("bank").noconvert(), py::arg("work_bytes") = std::size_t{64} << 20)
        .def("reserve", &NearestIndex::reserve, py::arg("n"), py::call_guard<py::gil_scoped_release>())
        .def("search", &search, py::arg("features").noconvert(), py::arg("k"))
        .def("group_scores", &group_scores, py::arg("features").noconvert())
        .def("search_device", &search_device, py::arg("features"), py::arg("n"), py::arg("k"), py::arg("distance"),
             py::arg("index"), py::arg("bad_row"), py::arg("stream"));

    m.def("group_rows", [] { return NearestIndex::group_multiple; });
    py::class_<GroupedIndex>(m, "GroupedIndex")
        .def(py::init<const Floats&, std::vector<std::int64_t>>(), py::arg("bank").noconvert(), py::arg("sizes"))
        .def("search", &GroupedIndex::search, py::arg("features").noconvert());

    py::class_<Smoother>(m, "Smoother")
        .def(py::init(&make_smoother), py::arg("vertical_first").noconvert(), py::arg("vertical_weights").noconvert(),
             py::arg("input_height"), py::arg("horizontal_first").noconvert(),
             py::arg("horizontal_weights").noconvert(), py::arg("input_width"))
        .def("__call__", &smooth, py::arg("input").noconvert(), py::arg("output").noconvert())
        .def("apply_device", &smooth_device, py::arg("input"), py::arg("output"), py::arg("maximum"),
             py::arg("stream"));

    py::class_<Resizer>(m, "Resizer")
        .def(py::init(&make_resizer), py::arg("steps"), py::arg("height"), py::arg("width"), py::arg("top"),
             py::arg("left"))
        .def("apply_device", &resize_device, py::arg("source"), py::arg("target"), py::arg("stream"));

    py::class_<DeviceMemory>(m, "DeviceMemory")
        .def(py::init<std::size_t>(), py::arg("bytes"))
        .def_property_readonly("pointer", [](const DeviceMemory& memory) { return Address(memory.data()); })
        .def_property_readonly("bytes", &DeviceMemory::bytes)
        .def("copy_from_host", &copy_from_host, py::arg("source"))
        .def("copy_to_host", &copy_to_host, py::arg("target"));

    m.def("prepare_row", &prepare_row, py::arg("row"), py::arg("centre"), py::arg("exponent"));
    m.def("score_error", &score_error, py::arg("d"), py::arg("query"), py::arg("row"));
    m.def("squared_distance", &squared_distance, py::arg("query"), py::arg("row"));
    m.def("rounded_root", &rounded_root, py::arg("high"), py::arg("low"), py::arg("d"));
}
