// Judges an image with a file of `edgead export MODEL --standalone verdict.onnx`, by OpenVINO alone,
// or by ONNX Runtime alone where VERDICT_ONNXRUNTIME is defined.
//
//   verdict verdict.onnx part.ppm [heat.pgm]
//
// Prints the decision and the score; the exit code is 0 for ok, 1 for review, 2 for reject, and 3 for an error.
// The map is written as an image of grey levels where a third name is given. See docs/reference/standalone.md.
//
// Images are binary PPM (P6), so that nothing else is needed; with OpenCV, `cv::imread(name)` gives the very bytes.

#ifdef VERDICT_ONNXRUNTIME
#include <onnxruntime_cxx_api.h>
#else
#include <openvino/openvino.hpp>
#endif

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

struct Verdict {
  std::int32_t decision = 0;
  float score = 0;
  std::size_t height = 0, width = 0;
  std::vector<float> map;
};

// Both engines refuse an image of another size than the file was made for.
#ifdef VERDICT_ONNXRUNTIME

Verdict judge(const char* model, Image& image) {
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "verdict");
  Ort::Session session(env, model, Ort::SessionOptions());  // opened once where images are many
  const std::int64_t shape[] = {static_cast<std::int64_t>(image.height), static_cast<std::int64_t>(image.width), 3};
  const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
  const Ort::Value input = Ort::Value::CreateTensor(memory, image.bgr.data(), image.bgr.size(), shape, 3);
  const char* const inputs[] = {"image"};
  const char* const outputs[] = {"anomaly_map", "image_score", "decision"};
  const auto found = session.Run(Ort::RunOptions(), inputs, &input, 1, outputs, 3);
  const auto size = found[0].GetTensorTypeAndShapeInfo().GetShape();
  const float* map = found[0].GetTensorData<float>();
  const auto height = static_cast<std::size_t>(size[0]), width = static_cast<std::size_t>(size[1]);
  return {*found[2].GetTensorData<std::int32_t>(), *found[1].GetTensorData<float>(), height, width,
          std::vector<float>(map, map + height * width)};
}

#else

Verdict judge(const char* model, Image& image) {
  ov::Core core;
  // By itself OpenVINO takes bfloat16 where the processor has it: scores would be other ones.
  ov::CompiledModel compiled =  // once where images are many
      core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
  ov::InferRequest request = compiled.create_infer_request();
  request.set_tensor("image", ov::Tensor(ov::element::u8, {image.height, image.width, 3}, image.bgr.data()));
  request.infer();
  const ov::Tensor found = request.get_tensor("anomaly_map");
  const float* map = found.data<const float>();
  return {*request.get_tensor("decision").data<const std::int32_t>(),
          *request.get_tensor("image_score").data<const float>(), found.get_shape()[0], found.get_shape()[1],
          std::vector<float>(map, map + found.get_size())};
}

#endif

void write_pgm(const std::string& name, const Verdict& verdict) {
  const auto [lowest, highest] = std::minmax_element(verdict.map.begin(), verdict.map.end());
  const float range = std::max(*highest - *lowest, std::numeric_limits<float>::min());
  std::ofstream file(name, std::ios::binary);
  file << "P5\n" << verdict.width << ' ' << verdict.height << "\n255\n";
  for (float value : verdict.map) {
    file.put(static_cast<char>(static_cast<std::uint8_t>(255 * (value - *lowest) / range)));
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
    Image image = read_ppm(words[2]);
    const Verdict verdict = judge(words[1], image);
    if (verdict.decision < 0 || verdict.decision > 2) throw std::runtime_error("the file gave no decision");
    if (count == 4) write_pgm(words[3], verdict);
    const char* const names[] = {"ok", "review", "reject"};
    std::printf("%s %.9g\n", names[verdict.decision], verdict.score);
    return verdict.decision;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "verdict: %s\n", error.what());
    return 3;
  }
}
