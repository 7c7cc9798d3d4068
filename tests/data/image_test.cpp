#include "data/image.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/rng.h"
#include "golden.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {
namespace {

const std::string kImages = kGoldenDir + "/images/";

ExitCode code_of(const std::string& bytes, int64_t max_pixels = kDefaultMaxImagePixels) {
  try {
    const RgbImage image = decode_image(bytes, "test", max_pixels);
    EXPECT_EQ(static_cast<int64_t>(image.pixels.size()), 3 * image.width * image.height);
    return ExitCode::kOk;
  } catch (const Error& error) {
    return error.code();
  }
}

TEST(Image, PixelsAreThoseOfPillow) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/images.json");
  int64_t compared = 0;
  for (const JsonValue record : golden.root().at("images")) {
    const std::string file(record.at("file").as_string());
    SCOPED_TRACE(file);
    if (record.get_bool("refused", false)) {
      EXPECT_EQ(code_of(read_file(file, 1 << 20)), ExitCode::kBadData);
      continue;
    }
    const RgbImage image = load_image(file, kDefaultMaxImagePixels);
    EXPECT_EQ(image.width, record.at("width").as_int());
    EXPECT_EQ(image.height, record.at("height").as_int());
    EXPECT_EQ(crc_of(image.pixels), record.at("pixels").as_int());
    ++compared;
  }
  EXPECT_GE(compared, 34);
}

TEST(Image, LimitIsCheckedOnTheHeader) {
  for (const char* file : {"rgb.png", "420.jpg"}) {
    const std::string bytes = read_file(kImages + file, 1 << 20);
    const RgbImage image = decode_image(bytes, file, kDefaultMaxImagePixels);
    const int64_t pixels = image.width * image.height;
    EXPECT_EQ(code_of(bytes, pixels), ExitCode::kOk);
    EXPECT_EQ(code_of(bytes, pixels - 1), ExitCode::kBadData);
  }
}

// A header that promises 60,000 x 60,000 pixels must fail before 10 GB are asked for.
TEST(Image, AbsurdHeadersAreRefused) {
  std::string jpeg = read_file(kImages + "444.jpg", 1 << 20);
  const size_t frame = jpeg.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  for (size_t i = 5; i < 9; ++i) jpeg[frame + i] = '\xEA';
  EXPECT_EQ(code_of(jpeg), ExitCode::kBadData);
}

TEST(Image, MessagesNameTheFileAndTheReason) {
  const auto message_of = [](const std::string& bytes) -> std::string {
    try {
      decode_image(bytes, "some/file", kDefaultMaxImagePixels);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message_of("").find("some/file: the file is empty"), std::string::npos);
  EXPECT_NE(message_of("<html>").find("neither a JPEG nor a PNG"), std::string::npos);
  EXPECT_NE(message_of(read_file(kImages + "cmyk.jpg", 1 << 20)).find("CMYK"), std::string::npos);
  EXPECT_THROW(load_image(kImages + "not there.jpg", kDefaultMaxImagePixels), Error);
}

// Cut anywhere, a file is refused: no pixels are guessed.
TEST(Image, TruncatedFilesAreRefused) {
  for (const char* file : {"420.jpg", "progressive.jpg", "gray.jpg", "rgb.png", "palette_4.png",
                           "rgba_16_interlaced.png"}) {
    const std::string bytes = read_file(kImages + file, 1 << 20);
    for (size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 61)
      EXPECT_EQ(code_of(bytes.substr(0, length)), ExitCode::kBadData) << file << " at " << length;
    EXPECT_EQ(code_of(bytes.substr(0, bytes.size() - 1)), ExitCode::kBadData) << file;
  }
}

// Rubbish may decode or be refused, but nothing else happens (this runs under ASan too).
TEST(Image, FlippedBitsDoNoHarm) {
  RandomStream draws(11, "bits");
  int refused = 0;
  for (const char* file : {"420.jpg", "progressive.jpg", "gray.jpg", "rgb_interlaced.png",
                           "palette_2.png", "gray_1_interlaced.png", "rgba_16_interlaced.png"}) {
    const std::string bytes = read_file(kImages + file, 1 << 20);
    for (int trial = 0; trial < 150; ++trial) {
      std::string damaged = bytes;
      for (uint64_t flips = 1 + draws.below(8); flips > 0; --flips) {
        const uint64_t at = draws.below(damaged.size());
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << draws.below(8)));
      }
      const ExitCode code = code_of(damaged, 1 << 22);
      EXPECT_TRUE(code == ExitCode::kOk || code == ExitCode::kBadData);
      refused += code == ExitCode::kBadData;
    }
  }
  EXPECT_GT(refused, 300);
}

}  // namespace
}  // namespace facet
