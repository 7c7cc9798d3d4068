// How many JPEG files a core makes into pixels for the vision encoder: read, decoded, resized,
// cropped, normalised. scripts/bench_pillow.py does the same to the same files with Pillow and
// Transformers.
//
// usage: preprocess_bench DIRECTORY [SECONDS]
//
// The pictures are drawn into DIRECTORY: shapes of one colour and of texture before a sky of smooth
// gradients, with the grain of a sensor, at quality 75 to 90 with halved chroma (4:2:0). Their
// detail falls off with its frequency as that of photographs does, so decoding and resizing have
// the shares of the work that they have there.
#include <fmt/core.h>
#include <jpeglib.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "base/rng.h"
#include "data/image_preprocess.h"
#include "io/file.h"

namespace facet {
namespace {

struct Size {
  int64_t width, height, files;
};
constexpr Size kSizes[] = {{640, 480, 24}, {2048, 1536, 6}};

// Smooth noise in [-1, 1]: random values on a grid, blended between its points.
class Noise {
 public:
  explicit Noise(RandomStream& draws) : values_(kSide * kSide) {
    for (float& value : values_) value = static_cast<float>(draws.below(2001)) / 1000 - 1;
  }
  float at(float x, float y) const {
    const float left = std::floor(x), top = std::floor(y);
    const float u = smooth(x - left), v = smooth(y - top);
    const auto i = static_cast<int64_t>(left), j = static_cast<int64_t>(top);
    return (1 - v) * ((1 - u) * point(i, j) + u * point(i + 1, j)) +
           v * ((1 - u) * point(i, j + 1) + u * point(i + 1, j + 1));
  }

 private:
  static constexpr int64_t kSide = 64;
  static float smooth(float t) { return t * t * (3 - 2 * t); }
  float point(int64_t x, int64_t y) const {
    return values_[static_cast<size_t>(y % kSide * kSide + x % kSide)];
  }
  std::vector<float> values_;
};

// A disc of one colour, with texture of its own strength.
struct Shape {
  float x, y, radius, texture;
  float color[3];
};

class Scene {
 public:
  explicit Scene(uint64_t seed) : draws_(seed, "scene"), brightness_(draws_), color_(draws_) {
    for (Shape& shape : shapes_) {
      shape = {unit(), unit(), 0.05f + 0.2f * unit(), unit() * unit() * 1.5f, {}};
      for (float& value : shape.color) value = 30 + 190 * unit();
    }
  }

  // (height, width, 3)
  RgbImage draw(int64_t width, int64_t height) {
    RgbImage image{width, height, std::vector<uint8_t>(static_cast<size_t>(3 * width * height))};
    uint8_t* out = image.pixels.data();
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x, out += 3)
        draw_pixel(static_cast<float>(x) / static_cast<float>(height),
                   static_cast<float>(y) / static_cast<float>(height), height, out);
    return image;
  }

 private:
  float unit() { return static_cast<float>(draws_.below(1 << 16)) / (1 << 16); }

  // Octaves of noise down to details of two pixels, each weaker than the one before.
  float detail(float x, float y, int64_t height) const {
    float sum = 0, strength = 34;
    for (float cells = 4; cells * 2 < static_cast<float>(height); cells *= 2, strength *= 0.87f)
      sum += strength * brightness_.at(x * cells + cells, y * cells);
    return sum;
  }

  void draw_pixel(float x, float y, int64_t height, uint8_t* out) {
    const Shape* shape = nullptr;
    for (const Shape& each : shapes_)
      if (std::hypot(each.x * 1.33f - x, each.y - y) < each.radius) shape = &each;
    const float light = detail(x, y, height) * (shape ? shape->texture : 0.6f);
    const float tint = 14 * color_.at(x * 5, y * 5);
    const float grain = 5 * (unit() + unit() + unit() - 1.5f);
    for (int c = 0; c < 3; ++c) {
      const float base = shape ? shape->color[c] : 120 + 30 * static_cast<float>(c) - 60 * y;
      const float value = base + light + grain + tint * static_cast<float>(1 - c);
      out[c] = static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f));
    }
  }

  RandomStream draws_;
  Noise brightness_, color_;
  Shape shapes_[24];
};

// libjpeg's own error handler ends the program with a message; what it compresses is no outsider's.
void write_jpeg(const RgbImage& image, int quality, const std::string& path) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = static_cast<JDIMENSION>(image.width);
  jpeg.image_height = static_cast<JDIMENSION>(image.height);
  jpeg.input_components = 3;
  jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, quality, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    auto* row = const_cast<uint8_t*>(image.pixels.data()) + 3 * image.width * jpeg.next_scanline;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  write_file(path, std::string(reinterpret_cast<const char*>(bytes), size));
  jpeg_destroy_compress(&jpeg);
  std::free(bytes);
}

std::vector<std::string> files_of(const std::string& directory, const Size& size) {
  const std::string folder = fmt::format("{}/{}x{}", directory, size.width, size.height);
  make_directories(folder);
  std::vector<std::string> files;
  for (int64_t i = 0; i < size.files; ++i) {
    files.push_back(fmt::format("{}/{:02}.jpg", folder, i));
    if (std::filesystem::exists(files.back())) continue;
    write_jpeg(Scene(static_cast<uint64_t>(i)).draw(size.width, size.height),
               75 + static_cast<int>(i * 15 / (size.files - 1)), files.back());
  }
  return files;
}

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Images a second of processor time.
double rate(const std::vector<std::string>& files, double seconds) {
  const ImagePreprocessor preprocess({});
  std::vector<float> pixels(
      static_cast<size_t>(3 * preprocess.image_size() * preprocess.image_size()));
  const auto all = [&] {
    for (const std::string& file : files) {
      ImagePixels sink(preprocess, pixels.data());
      load_image(file, kDefaultMaxImagePixels, sink);
    }
  };
  all();  // warm
  int64_t images = 0;
  const double start = processor_seconds();
  while (processor_seconds() < start + seconds) {
    all();
    images += static_cast<int64_t>(files.size());
  }
  return static_cast<double>(images) / (processor_seconds() - start);
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  const std::string directory = argc > 1 ? argv[1] : "preprocess_bench";
  const double seconds = argc > 2 ? std::stod(argv[2]) : 1;
  for (const facet::Size& size : facet::kSizes)
    fmt::print("preprocess_{}x{} {:.1f}\n", size.width, size.height,
               facet::rate(facet::files_of(directory, size), seconds));
}
