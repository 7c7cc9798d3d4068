// What decoding and preprocessing a large image takes of the memory: where a decoder gives rows one
// by one, nothing that grows with the image, else what max_decoding_bytes() promises.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <webp/encode.h>

#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>

#include "data/image_preprocess.h"
#include "io/file.h"

#ifndef FACET_CHECKED  // the sanitizer's own memory would be counted
namespace facet {
namespace {

constexpr int64_t kSide = 2048;
constexpr int64_t kPixels = kSide * kSide;
constexpr int64_t kSlack = int64_t{3} << 20;  // less than a byte a pixel

// Of more colours than a palette has.
RgbImage gradients(int64_t side) {
  RgbImage image{side, side, {}};
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x)
      for (const int64_t value : {x / 8, y / 8, (x + y) / 16})
        image.pixels.push_back(static_cast<uint8_t>(value));
  return image;
}

std::string file_of(uint8_t* bytes, size_t size) {
  std::string file(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);
  return file;
}

// Of one colour.
std::string jpeg(J_COLOR_SPACE colors, int components, bool progressive) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = jpeg.image_height = kSide;
  jpeg.input_components = components;
  jpeg.in_color_space = colors;
  jpeg_set_defaults(&jpeg);
  if (progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  std::vector<uint8_t> samples(static_cast<size_t>(components * kSide), 99);
  JSAMPROW row = samples.data();
  for (int64_t y = 0; y < kSide; ++y) jpeg_write_scanlines(&jpeg, &row, 1);
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  return file_of(bytes, size);
}

std::string webp(int64_t side) {
  uint8_t* bytes = nullptr;
  const auto width = static_cast<int>(side);
  const size_t size =
      WebPEncodeLosslessRGB(gradients(side).pixels.data(), width, width, 3 * width, &bytes);
  return file_of(bytes, size);
}

// The most memory that this process has held.
int64_t peak() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} << 10;
}

// The most memory that pixels for an encoder take on the way. A child does it: its peak begins
// anew.
int64_t peak_of(const std::string& bytes) {
  malloc_trim(0);  // free memory that is still held would not be counted
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    const int64_t before = peak();
    const ImagePreprocessor preprocess({});
    std::vector<float> pixels(3 * 224 * 224);
    ImagePixels sink(preprocess, pixels.data());
    decode_image(bytes, "test", kDefaultMaxImagePixels, sink);
    const int64_t taken = peak() - before;
    _exit(write(ends[1], &taken, sizeof taken) == sizeof taken ? 0 : 1);
  }
  close(ends[1]);
  int64_t taken = -1;
  EXPECT_EQ(read(ends[0], &taken, sizeof taken), static_cast<ssize_t>(sizeof taken));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return taken;
}

TEST(ImageMemory, RowsThatComeOneByOneAreNotKept) {
  EXPECT_LT(peak_of(jpeg(JCS_RGB, 3, false)), kSlack);
  EXPECT_LT(peak_of(encode_png(gradients(kSide))), kSlack);
}

// The worst there is.
TEST(ImageMemory, ProgressiveJpegsKeepTheirCoefficientsOnly) {
  const int64_t bytes = peak_of(jpeg(JCS_CMYK, 4, true));
  EXPECT_GT(bytes, 8 * kPixels);  // or this test measures something else
  EXPECT_LT(bytes, 8 * kPixels + kSlack);
  EXPECT_LT(bytes, max_decoding_bytes(kPixels));
}

TEST(ImageMemory, WebPsTakeLess) {
  constexpr int64_t kSmaller = kSide / 2;  // to encode it takes long
  const int64_t bytes = peak_of(webp(kSmaller));
  EXPECT_GT(bytes, 7 * kSmaller * kSmaller);
  EXPECT_LT(bytes, 7 * kSmaller * kSmaller + kSlack);
}

}  // namespace
}  // namespace facet
#endif
