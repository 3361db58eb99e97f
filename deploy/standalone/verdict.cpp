// Judges an image with a file of `edgead export MODEL --standalone verdict.onnx`, by OpenVINO alone.
//
//   verdict verdict.onnx part.ppm [heat.pgm]
//
// Prints the decision and the score; the exit code is 0 for ok, 1 for review, 2 for reject, and 3 for an error.
// The map is written as an image of grey levels where a third name is given. See docs/how-to/without-edgead.md.
//
// Images are binary PPM (P6), so that nothing else is needed; with OpenCV, `cv::imread(name)` gives the very bytes.

#include <openvino/openvino.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Image {
  std::size_t height = 0, width = 0;
  std::vector<std::uint8_t> bgr;
};

Image read_ppm(const std::string& name) {
  std::ifstream file(name, std::ios::binary);
  std::string kind;
  std::size_t levels = 0;
  Image image;
  if (!(file >> kind >> image.width >> image.height >> levels) || kind != "P6" || levels != 255) {
    throw std::runtime_error(name + " is no binary PPM of 8 bits without comments");
  }
  file.get();  // the one character behind the header
  if (image.width > 65535 || image.height > 65535) throw std::runtime_error(name + " is too large");
  image.bgr.resize(3 * image.width * image.height);
  if (!file.read(reinterpret_cast<char*>(image.bgr.data()), static_cast<std::streamsize>(image.bgr.size()))) {
    throw std::runtime_error(name + " is cut off");
  }
  for (std::size_t at = 0; at < image.bgr.size(); at += 3) std::swap(image.bgr[at], image.bgr[at + 2]);
  return image;
}

void write_pgm(const std::string& name, const ov::Tensor& map) {
  const float* values = map.data<const float>();
  const auto [lowest, highest] = std::minmax_element(values, values + map.get_size());
  const float range = std::max(*highest - *lowest, std::numeric_limits<float>::min());
  std::ofstream file(name, std::ios::binary);
  file << "P5\n" << map.get_shape()[1] << ' ' << map.get_shape()[0] << "\n255\n";
  for (std::size_t at = 0; at < map.get_size(); ++at) {
    file.put(static_cast<char>(static_cast<std::uint8_t>(255 * (values[at] - *lowest) / range)));
  }
  if (!file.flush()) throw std::runtime_error(name + " cannot be written");
}

}  // namespace

int main(int count, char** words) {
  if (count < 3 || count > 4) {
    std::fprintf(stderr, "usage: verdict verdict.onnx part.ppm [heat.pgm]\n");
    return 3;
  }
  try {
    ov::Core core;
    // By itself OpenVINO takes bfloat16 where the processor has it: scores would be other ones.
    ov::CompiledModel model =
        core.compile_model(words[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    Image image = read_ppm(words[2]);
    ov::InferRequest request = model.create_infer_request();
    // An image of another size than the file was made for is refused here.
    request.set_tensor("image", ov::Tensor(ov::element::u8, {image.height, image.width, 3}, image.bgr.data()));
    request.infer();
    const float score = *request.get_tensor("image_score").data<const float>();
    const std::int32_t decision = *request.get_tensor("decision").data<const std::int32_t>();
    if (count == 4) write_pgm(words[3], request.get_tensor("anomaly_map"));
    const char* const names[] = {"ok", "review", "reject"};
    std::printf("%s %.9g\n", names[decision], score);
    return decision;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "verdict: %s\n", error.what());
    return 3;
  }
}
