// Python module edgead._native: checks arguments, releases the GIL and calls the kernels.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coreset/coreset.h"
#include "isa/isa.h"
#include "nearest/grouped.h"
#include "nearest/nearest.h"
#include "nearest/window_search.h"
#include "resize/shrink.h"
#include "shared/arrays.h"
#include "shared/threads.h"
#include "smooth/smooth.h"

namespace py = pybind11;
using namespace edgead;

namespace {

// The array must have two axes; checked by whoever calls.
Rows rows_of(const Floats& array) {
    return {array.data(), static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1))};
}

// `good`: the first of n features that is not finite, or n.
void require_finite(std::size_t good, py::ssize_t n) {
    if (good < static_cast<std::size_t>(n))
        throw std::invalid_argument("features has NaN or Inf in row " + std::to_string(good) +
                                    ": the network's output is not usable");
}

void require_bank(const Floats& bank) {
    require(bank.ndim() == 2 && bank.shape(0) > 0 && bank.shape(1) > 0, "memory_bank must be (m, d), not empty");
    require(bank.shape(0) < (py::ssize_t{1} << 31), "memory_bank must have fewer than 2^31 rows");
    require(static_cast<std::size_t>(bank.shape(1)) <= NearestIndex::max_dimension, "d must be at most 2^20");
}

// Owns a reference to the bank that the index reads.
class BoundIndex {
public:
    // `projection`: rows of a pre-scan, none of them for all dimensions; None for no pre-scan.
    BoundIndex(const Floats& bank, const std::string& isa, const std::optional<Floats>& projection) : bank_(bank) {
        require_bank(bank);
        const Kernels& kernels = find_kernels(isa);
        std::optional<Rows> directions;
        if (projection) {
            require(projection->ndim() == 2 && projection->shape(1) == bank.shape(1), "a projection must be (p, d)");
            directions = rows_of(*projection);
        }
        const Rows rows = rows_of(bank);
        py::gil_scoped_release release;
        index_ = std::make_unique<NearestIndex>(rows, kernels, directions ? &*directions : nullptr);
    }

    py::tuple search(const Floats& features, int k) const {
        require(features.ndim() == 2 && static_cast<std::size_t>(features.shape(1)) == index_->dimension(),
                "features must be (n, d) with the memory bank's d");
        require(k >= 1 && k <= NearestIndex::max_k && static_cast<std::size_t>(k) <= index_->rows(),
                "k must be from 1 to 16 and at most the number of bank rows");
        const py::ssize_t n = features.shape(0);
        Floats distance({n, static_cast<py::ssize_t>(k)});
        Ints index({n, static_cast<py::ssize_t>(k)});
        const Rows queries = rows_of(features);
        float* distances = distance.mutable_data();
        std::int32_t* rows = index.mutable_data();
        std::size_t good;
        {
            py::gil_scoped_release release;
            good = index_->search(queries, k, distances, rows);
        }
        require_finite(good, n);
        return py::make_tuple(std::move(distance), std::move(index));
    }

    const char* isa() const { return index_->level(); }
    bool prescans() const { return index_->prescans(); }

private:
    Floats bank_;
    std::unique_ptr<NearestIndex> index_;
};

// Owns a reference to the bank that the index reads.
class BoundGroups {
public:
    BoundGroups(const Floats& bank, const std::vector<std::size_t>& sizes, const std::string& isa, bool prescan)
        : bank_(bank) {
        require_bank(bank);
        const Kernels& kernels = find_kernels(isa);
        std::size_t rows = 0;
        for (std::size_t size : sizes) {
            require(size > 0 && size % GroupedIndex::rows_of_panels(kernels) == 0,
                    "a group must hold rows, a multiple of group_rows");
            rows += size;
        }
        require(rows == static_cast<std::size_t>(bank.shape(0)), "the groups must add up to the rows of memory_bank");
        const Rows all = rows_of(bank);
        py::gil_scoped_release release;
        index_ = std::make_unique<GroupedIndex>(all, sizes, kernels, prescan);
    }

    Floats search(const Floats& features) const {
        require(features.ndim() == 2 && static_cast<std::size_t>(features.shape(1)) == index_->dimension(),
                "features must be (n, d) with the memory bank's d");
        Floats distance({features.shape(0), static_cast<py::ssize_t>(index_->groups())});
        const Rows queries = rows_of(features);
        float* target = distance.mutable_data();
        std::size_t good;
        {
            py::gil_scoped_release release;
            good = index_->search(queries, target);
        }
        require_finite(good, features.shape(0));
        return distance;
    }

private:
    Floats bank_;
    std::unique_ptr<GroupedIndex> index_;
};

std::unique_ptr<Smoother> make_smoother(const Ints& vertical_first, const Floats& vertical_weights, int input_height,
                                        const Ints& horizontal_first, const Floats& horizontal_weights, int input_width,
                                        const std::string& isa) {
    return std::make_unique<Smoother>(band(vertical_first, vertical_weights, input_height),
                                      band(horizontal_first, horizontal_weights, input_width),
                                      find_kernels(isa).smooth);
}

std::unique_ptr<Blur> make_blur(const Floats& weights, const Ints& rows, const Ints& columns, const std::string& isa) {
    require(weights.ndim() == 1 && rows.ndim() == 1 && columns.ndim() == 1, "weights, rows and columns must be lines");
    return std::make_unique<Blur>(std::vector<float>(weights.data(), weights.data() + weights.size()),
                                  std::vector<std::int32_t>(rows.data(), rows.data() + rows.size()),
                                  std::vector<std::int32_t>(columns.data(), columns.data() + columns.size()),
                                  find_kernels(isa).smooth);
}

template <typename Operator>
float apply(const Operator& smoother, const Floats& input, Floats& output) {
    require(input.ndim() == 2 && input.shape(0) == smoother.input_height() && input.shape(1) == smoother.input_width(),
            "the input has another shape than the smoother");
    require(output.ndim() == 2 && output.shape(0) == smoother.height() && output.shape(1) == smoother.width(),
            "the output has another shape than the smoother");
    const float* source = input.data();
    float* target = output.mutable_data();
    require(target + output.size() <= source || source + input.size() <= target, "out overlaps the map that it is of");
    float largest = 0;
    bool finite;
    {
        py::gil_scoped_release release;
        finite = smoother.apply(source, target, &largest);
    }
    if (!finite) throw std::invalid_argument("the map holds NaN or Inf, or values beyond 2^126: fix what produced it");
    return largest;
}

template <class Choose>
py::array_t<std::int64_t> chosen_rows(const Floats& features, std::size_t count, const py::object& progress,
                                      const Choose& choose) {
    require(features.ndim() == 2 && features.shape(0) > 0 && features.shape(1) > 0,
            "features must be (n, d), not empty");
    const Rows rows = rows_of(features);
    require(count >= 1 && count <= rows.count, "count must be from 1 to n");
    require(rows.count < (std::size_t{1} << 32) && rows.width <= NearestIndex::max_dimension,
            "n must be below 2^32 and d at most 2^20");
    const auto tick = [&](std::int64_t done) {
        py::gil_scoped_acquire hold;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (!progress.is_none()) progress(done, count);
    };
    std::vector<std::int64_t> picks;
    {
        py::gil_scoped_release release;
        picks = choose(rows, tick);
    }
    py::array_t<std::int64_t> result(static_cast<py::ssize_t>(picks.size()));
    std::copy(picks.begin(), picks.end(), result.mutable_data());
    return result;
}

py::array_t<std::int64_t> coreset(const Floats& features, std::size_t count, std::size_t first, const std::string& isa,
                                  const py::object& progress) {
    require(features.ndim() == 2 && first < static_cast<std::size_t>(features.shape(0)), "first must be a row");
    const Kernels& kernels = find_kernels(isa);
    return chosen_rows(features, count, progress, [&](const Rows& rows, const Progress& tick) {
        return greedy_coreset(rows, count, first, kernels, tick);
    });
}

py::array_t<std::int64_t> more_of_coreset(const Floats& features, const Longs& nearest, std::size_t count,
                                          const std::string& isa, const py::object& progress) {
    require(nearest.ndim() == 1 && features.ndim() == 2 && nearest.shape(0) == features.shape(0),
            "nearest must be (n,), as the features");
    const std::int64_t* of = nearest.data();
    for (py::ssize_t i = 0; i < nearest.shape(0); ++i)
        require(of[i] >= -1 && of[i] < features.shape(0), "nearest must be rows, or -1");
    const Kernels& kernels = find_kernels(isa);
    return chosen_rows(features, count, progress, [&](const Rows& rows, const Progress& tick) {
        return extend_coreset(rows, of, count, kernels, tick);
    });
}

Floats distances(const Floats& features, std::size_t row, const std::string& isa) {
    require(features.ndim() == 2 && row < static_cast<std::size_t>(features.shape(0)), "row is outside the features");
    const Rows rows = rows_of(features);
    const Kernels& kernels = find_kernels(isa);
    Floats squared(features.shape(0));
    float* target = squared.mutable_data();
    {
        py::gil_scoped_release release;
        coreset_distances(rows, row, kernels, target);
    }
    return squared;
}

// Owns a reference to the golden parts that the search reads.
class BoundWindows {
public:
    BoundWindows(const Floats& parts, int reach, const std::string& isa) : parts_(parts) {
        require(parts.ndim() == 4 && parts.size() > 0, "golden parts must be (g, h, w, d), not empty");
        require(reach >= 0 && reach <= 16, "reach must be from 0 to 16");
        require(parts.size() / parts.shape(3) < (py::ssize_t{1} << 31), "golden parts must have fewer than 2^31 rows");
        const Rows rows = {parts.data(), static_cast<std::size_t>(parts.size() / parts.shape(3)),
                           static_cast<std::size_t>(parts.shape(3))};
        search_ = std::make_unique<WindowSearch>(rows, parts.shape(1), parts.shape(2), reach, find_kernels(isa));
    }

    py::tuple search(const Floats& features, const Ints& places) const {
        require(features.ndim() == 2 && static_cast<std::size_t>(features.shape(1)) == search_->dimension(),
                "features must be (n, d) with the golden parts' d");
        require(places.ndim() == 2 && places.shape(0) == features.shape(0) && places.shape(1) == 2,
                "places must be (n, 2)");
        const std::int32_t* place = places.data();
        for (py::ssize_t i = 0; i < places.shape(0); ++i, place += 2)
            require(place[0] >= 0 && static_cast<std::size_t>(place[0]) < search_->height() && place[1] >= 0 &&
                        static_cast<std::size_t>(place[1]) < search_->width(),
                    "a place is outside the grid");
        Floats there(features.shape(0)), back(features.shape(0));
        const Rows rows = rows_of(features);
        float *there_data = there.mutable_data(), *back_data = back.mutable_data();
        {
            py::gil_scoped_release release;
            search_->search(rows, places.data(), there_data, back_data);
        }
        return py::make_tuple(std::move(there), std::move(back));
    }

private:
    Floats parts_;
    std::unique_ptr<WindowSearch> search_;
};

using Bytes = py::array_t<std::uint8_t, 0>;

// Rows of the image may lie apart, as those of a region of a larger one do.
void shrink_image(const Bytes& image, Bytes& output, const std::string& isa) {
    require(image.ndim() == 3 && image.shape(2) == shrink_channels && image.strides(2) == 1 &&
                image.strides(1) == shrink_channels && image.strides(0) >= image.shape(1) * shrink_channels,
            "image must be (H, W, 3) with whole rows of pixels");
    require(output.ndim() == 3 && output.shape(2) == shrink_channels && (output.flags() & Bytes::c_style) != 0,
            "out must be (h, w, 3) in C order");
    require(std::max(image.shape(0), image.shape(1)) <= shrink_most_side, "an image has at most 2^20 rows and columns");
    const int height = static_cast<int>(output.shape(0)), width = static_cast<int>(output.shape(1));
    require(1 <= height && height <= image.shape(0) && 1 <= width && width <= image.shape(1),
            "an image shrinks along both axes, to one pixel at least");
    const PixelRows rows = {image.data(), image.strides(0), static_cast<int>(image.shape(0)),
                            static_cast<int>(image.shape(1))};
    std::uint8_t* target = output.mutable_data();
    const Kernels& kernels = find_kernels(isa);
    py::gil_scoped_release release;
    shrink(rows, height, width, kernels.shrink, target);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
    m.doc() = "Native kernels of edgead; edgead.kernels is the interface.";
    m.def("isa", [] { return chosen_kernels().level; });
    m.def("available_isas", [] {
        std::vector<std::string> names;
        for (const Kernels* kernels : available_kernels()) names.push_back(kernels->level);
        return names;
    });
    m.def("find_isa", [](const std::string& name) { return find_kernels(name).level; });
    m.def("has_prescan", [](const std::string& level) { return find_kernels(level).scan != nullptr; });
    m.def("group_rows", [](const std::string& level) { return GroupedIndex::rows_of_panels(find_kernels(level)); });
    m.def("threads", &thread_count);
    m.def("set_threads", &set_thread_count, py::arg("count"));

    py::class_<BoundIndex>(m, "NearestIndex")
        .def(py::init<const Floats&, const std::string&, const std::optional<Floats>&>(), py::arg("bank").noconvert(),
             py::arg("isa"), py::arg("projection").noconvert())
        .def("search", &BoundIndex::search, py::arg("features").noconvert(), py::arg("k"))
        .def_property_readonly("isa", &BoundIndex::isa)
        .def_property_readonly("prescans", &BoundIndex::prescans);

    py::class_<BoundGroups>(m, "GroupedIndex")
        .def(py::init<const Floats&, const std::vector<std::size_t>&, const std::string&, bool>(),
             py::arg("bank").noconvert(), py::arg("sizes"), py::arg("isa"), py::arg("prescan"))
        .def("search", &BoundGroups::search, py::arg("features").noconvert());

    py::class_<Smoother>(m, "Smoother")
        .def(py::init(&make_smoother), py::arg("vertical_first").noconvert(), py::arg("vertical_weights").noconvert(),
             py::arg("input_height"), py::arg("horizontal_first").noconvert(),
             py::arg("horizontal_weights").noconvert(), py::arg("input_width"), py::arg("isa"))
        .def("__call__", &apply<Smoother>, py::arg("input").noconvert(), py::arg("output").noconvert());

    py::class_<Blur>(m, "Blur")
        .def(py::init(&make_blur), py::arg("weights").noconvert(), py::arg("rows").noconvert(),
             py::arg("columns").noconvert(), py::arg("isa"))
        .def("__call__", &apply<Blur>, py::arg("input").noconvert(), py::arg("output").noconvert());

    m.def("greedy_coreset", &coreset, py::arg("features").noconvert(), py::arg("count"), py::arg("first"),
          py::arg("isa"), py::arg("progress"));
    m.def("extend_coreset", &more_of_coreset, py::arg("features").noconvert(), py::arg("nearest").noconvert(),
          py::arg("count"), py::arg("isa"), py::arg("progress"));
    m.def("coreset_distances", &distances, py::arg("features").noconvert(), py::arg("row"), py::arg("isa"));

    py::class_<BoundWindows>(m, "WindowSearch")
        .def(py::init<const Floats&, int, const std::string&>(), py::arg("parts").noconvert(), py::arg("reach"),
             py::arg("isa"))
        .def("search", &BoundWindows::search, py::arg("features").noconvert(), py::arg("places").noconvert());

    m.def("shrink", &shrink_image, py::arg("image").noconvert(), py::arg("output").noconvert(), py::arg("isa"));
}
