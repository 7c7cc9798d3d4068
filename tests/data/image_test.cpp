#include "data/image.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/check.h"
#include "base/rng.h"
#include "golden.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {
namespace {

const std::string kImages = kGoldenDir + "/images/";
const std::string kDecoding = kGoldenDir + "/decoding/";

ExitCode code_of(const std::string& bytes, int64_t max_pixels = kDefaultMaxImagePixels) {
  try {
    const RgbImage image = decode_image(bytes, "test", max_pixels);
    EXPECT_EQ(static_cast<int64_t>(image.pixels.size()), 3 * image.width * image.height);
    return ExitCode::kOk;
  } catch (const Error& error) {
    return error.code();
  }
}

std::string message_of(const std::string& bytes) {
  try {
    decode_image(bytes, "some/file", kDefaultMaxImagePixels);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The pixels that the record names, or refused as it says.
void expect_pixels(const std::string& bytes, const JsonValue& record) {
  if (record.get_bool("refused", false)) {
    EXPECT_EQ(code_of(bytes), ExitCode::kBadData);
    return;
  }
  const RgbImage image = decode_image(bytes, "test", kDefaultMaxImagePixels);
  EXPECT_EQ(image.width, record.at("width").as_int());
  EXPECT_EQ(image.height, record.at("height").as_int());
  EXPECT_EQ(crc_of(image.pixels), record.at("pixels").as_int());
}

int64_t compare_whole_files(const std::string& golden, const char* list) {
  const JsonDocument document = JsonDocument::read(kGoldenDir + golden);
  int64_t compared = 0;
  for (const JsonValue record : document.root().at(list)) {
    const std::string file(record.at("file").as_string());
    SCOPED_TRACE(file);
    expect_pixels(read_file(file, 1 << 20), record);
    ++compared;
  }
  return compared;
}

TEST(Image, PixelsAreThoseOfPillow) {
  EXPECT_GE(compare_whole_files("/images.json", "images"), 38);
}

// CMYK, animations, palettes that are too short, missing ends, wrong checksums, rubbish between
// parts.
TEST(Image, UnusualFilesAreReadOrRefusedAsByPillow) {
  EXPECT_GE(compare_whole_files("/decoding.json", "files"), 60);
}

TEST(Image, CutAndFlippedFilesAreReadOrRefusedAsByPillow) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/decoding.json");
  int64_t compared = 0;
  for (const JsonValue record : golden.root().at("damaged")) {
    std::string bytes = read_file(std::string(record.at("file").as_string()), 1 << 20);
    bytes.resize(static_cast<size_t>(record.at("length").as_int()));
    for (const JsonValue flip : record.at("flips")) {
      const auto bit = static_cast<size_t>(flip.as_int());
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    }
    SCOPED_TRACE(fmt::format("{}, record {}", record.at("file").as_string(), compared));
    expect_pixels(bytes, record);
    ++compared;
  }
  EXPECT_GE(compared, 360);
}

// Keeps the part that it wants.
class Part : public RowSink {
 public:
  explicit Part(const Region& region) : region_(region) {}
  Region begin(int64_t, int64_t) override { return region_; }
  void add(const uint8_t* rows, int64_t stride, int64_t count) override {
    for (int64_t y = 0; y < count; ++y, rows += stride)
      pixels.insert(pixels.end(), rows, rows + 3 * region_.width);
  }
  std::vector<uint8_t> pixels;

 private:
  Region region_;
};

std::vector<uint8_t> part_of(const RgbImage& image, const Region& region) {
  Part part(region);
  send_rows(image, part);
  return part.pixels;
}

// Decoders leave out work for columns that are not wanted; chroma is blended across their edge.
TEST(Image, APartIsTheSameAsInTheWholeImage) {
  RandomStream draws(13, "parts");
  const auto below = [&](int64_t bound) {
    return static_cast<int64_t>(draws.below(static_cast<uint64_t>(bound)));
  };
  for (const std::string& file :
       {kImages + "420.jpg", kImages + "422.jpg", kImages + "444.jpg", kImages + "gray.jpg",
        kImages + "cmyk.jpg", kImages + "progressive.jpg", kDecoding + "restarts.jpg",
        kImages + "rgb.png", kImages + "rgb_interlaced.png", kDecoding + "animated_corner.png",
        kDecoding + "stream_short_palette.png", kDecoding + "lossy.webp"}) {
    const std::string bytes = read_file(file, 1 << 20);
    const RgbImage image = decode_image(bytes, file, kDefaultMaxImagePixels);
    for (int trial = 0; trial < 60; ++trial) {
      const int64_t x = below(image.width), y = below(image.height);
      const Region region{x, y, 1 + below(image.width - x), 1 + below(image.height - y)};
      Part part(region);
      decode_image(bytes, file, kDefaultMaxImagePixels, part);
      ASSERT_EQ(part.pixels, part_of(image, region))
          << file << ": " << region.width << " x " << region.height << " at " << x << "," << y;
    }
  }
}

TEST(Image, LimitIsCheckedOnTheHeader) {
  for (const std::string& file :
       {kImages + "rgb.png", kImages + "420.jpg", kDecoding + "lossy.webp"}) {
    const std::string bytes = read_file(file, 1 << 20);
    const RgbImage image = decode_image(bytes, file, kDefaultMaxImagePixels);
    const int64_t pixels = image.width * image.height;
    EXPECT_EQ(code_of(bytes, pixels), ExitCode::kOk);
    EXPECT_EQ(code_of(bytes, pixels - 1), ExitCode::kBadData);
  }
}

// Wants one pixel of an image that is let in.
class OnePixel : public RowSink {
 public:
  Region begin(int64_t, int64_t) override {
    is_let_in = true;
    return {0, 0, 1, 1};
  }
  void add(const uint8_t*, int64_t, int64_t) override {}
  bool is_let_in = false;
};

std::string big_endian(int64_t value, int bytes) {
  std::string text;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    text += static_cast<char>(value >> shift);
  return text;
}

std::string jpeg_of_side(int64_t side) {
  std::string jpeg = read_file(kImages + "444.jpg", 1 << 20);
  const std::string sides = big_endian(side, 2) + big_endian(side, 2);
  return jpeg.replace(jpeg.find("\xFF\xC0") + 5, 4, sides);
}

std::string png_of_side(int64_t width, int64_t height) {
  std::string png = read_file(kImages + "rgb.png", 1 << 20);
  png.replace(16, 8, big_endian(width, 4) + big_endian(height, 4));
  const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(&png[12]), 17);
  return png.replace(29, 4, big_endian(static_cast<int64_t>(crc), 4));
}

std::string webp_of_side(int64_t side) {
  std::string webp = read_file(kDecoding + "animated_corner.webp", 1 << 20);
  for (const size_t at : {24, 27})  // the canvas
    for (size_t i = 0; i < 3; ++i) webp[at + i] = static_cast<char>((side - 1) >> 8 * i);
  return webp;
}

// 9459 x 9459 is just below it, 9460 x 9460 above.
TEST(Image, DefaultLimitIsWherePillowWarns) {
  for (const std::string& bytes : {jpeg_of_side(9460), png_of_side(9460, 9460), webp_of_side(9460)})
    EXPECT_EQ(message_of(bytes),
              "some/file: 9460 x 9460 pixels are more than --max_image_pixels 89478485");
  for (const std::string& bytes : {jpeg_of_side(9459), png_of_side(9459, 9459)}) {
    OnePixel sink;
    try {
      decode_image(bytes, "test", kDefaultMaxImagePixels, sink);
    } catch (const Error&) {  // there are fewer pixels than the header says
    }
    EXPECT_TRUE(sink.is_let_in);
  }
}

TEST(Image, RowsOfPngsAreBounded) {
  EXPECT_EQ(message_of(png_of_side(262'145, 3)),
            "some/file: rows of 262145 pixels are too long; up to 262144 are read");
}

// A header that promises 60,000 x 60,000 pixels must fail before 10 GB are asked for.
TEST(Image, AbsurdHeadersAreRefused) {
  EXPECT_TRUE(contains(message_of(jpeg_of_side(60'138)),
                       "60138 x 60138 pixels are more than --max_image_pixels"));
  std::string webp = read_file(kDecoding + "animated_corner.webp", 1 << 20);
  for (size_t i = 24; i < 30; ++i) webp[i] = '\x7F';  // the canvas
  EXPECT_NE(message_of(webp), "");
}

TEST(Image, MessagesNameTheFileAndTheReason) {
  using namespace std::string_literals;
  EXPECT_EQ(message_of(""),
            "some/file: an empty file, not a JPEG, PNG or WebP image; download the file again");
  EXPECT_EQ(message_of("<html>not found</html>"),
            "some/file: an HTML page, not a JPEG, PNG or WebP image; download the file again");
  EXPECT_EQ(message_of("version https://git-lfs.github.com/spec/v1\n"),
            "some/file: a Git LFS pointer, not a JPEG, PNG or WebP image; fetch the file itself: "
            "git lfs pull");
  EXPECT_EQ(message_of(read_file(kImages + "picture.gif", 1 << 20)),
            "some/file: a GIF image; only JPEG, PNG and WebP are read: convert it");
  EXPECT_EQ(message_of("what is this?"), "some/file: neither a JPEG, PNG nor WebP image");
  for (const std::string& picture :
       {"II*\0\x08\0\0\0"s, "BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"s, "\0\0\0\x18"s + "ftypheic",
        "\0\0\0\x18"s + "ftypavif", "<svg width='1'>"s})
    EXPECT_TRUE(contains(message_of(picture), "only JPEG, PNG and WebP are read: convert it"));
  EXPECT_THROW(load_image(kImages + "not there.jpg", kDefaultMaxImagePixels), Error);
}

TEST(Image, JpegsOfOtherKindsAreRefusedWithTheReason) {
  const std::string jpeg = read_file(kImages + "444.jpg", 1 << 20);
  const size_t frame = jpeg.find("\xFF\xC0");
  const auto changed = [&](size_t at, char value) {
    std::string copy = jpeg;
    copy[frame + at] = value;
    return message_of(copy);
  };
  EXPECT_TRUE(contains(changed(4, 12), "a JPEG of 12 bits a sample; only 8 bits are read"));
  EXPECT_TRUE(contains(changed(9, 2), "a JPEG of 2 colour components"));
  for (const char marker : {'\xC3', '\xC5', '\xC7', '\xCB', '\xCF', '\xDE'})
    EXPECT_TRUE(contains(changed(1, marker), "a lossless or hierarchical JPEG"));
}

// libjpeg guesses what missing scans would have said, each version in its own way.
TEST(Image, ProgressiveImagesWithoutTheirLastScansAreRefused) {
  std::string jpeg = read_file(kImages + "progressive.jpg", 1 << 20);
  jpeg.resize(jpeg.rfind("\xFF\xDA"));
  EXPECT_TRUE(contains(message_of(jpeg + "\xFF\xD9"), "scans of a progressive image are missing"));
}

TEST(Image, ScansAreBounded) {
  const std::string jpeg = read_file(kImages + "progressive.jpg", 1 << 20);
  const size_t last = jpeg.rfind("\xFF\xDA");
  const std::string scan = jpeg.substr(last, jpeg.size() - 2 - last);
  std::string many = jpeg.substr(0, last);
  for (int i = 0; i < 300; ++i) many += scan;
  EXPECT_TRUE(contains(message_of(many + "\xFF\xD9"), "more than 256 scans"));
}

TEST(Image, PngsWrittenAreReadBack) {
  RandomStream draws(12, "pixels");
  for (const int64_t width : {1, 2, 31}) {
    RgbImage image{width, 3, std::vector<uint8_t>(static_cast<size_t>(9 * width))};
    for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(draws.below(256));
    const RgbImage back = decode_image(encode_png(image), "test", kDefaultMaxImagePixels);
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.pixels, image.pixels);
  }
}

// Cut anywhere, a file is refused: no pixels are guessed. (Of a PNG the end may be missing.)
TEST(Image, TruncatedFilesAreRefused) {
  for (const std::string& file :
       {kImages + "420.jpg", kImages + "progressive.jpg", kImages + "gray.jpg",
        kImages + "cmyk.jpg", kDecoding + "lossy.webp", kDecoding + "animated.webp"}) {
    const std::string bytes = read_file(file, 1 << 20);
    for (size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 61)
      EXPECT_EQ(code_of(bytes.substr(0, length)), ExitCode::kBadData) << file << " at " << length;
    EXPECT_EQ(code_of(bytes.substr(0, bytes.size() - 1)), ExitCode::kBadData) << file;
  }
}

// Rubbish may decode or be refused, but nothing else happens (this runs under ASan too).
TEST(Image, FlippedBitsDoNoHarm) {
  RandomStream draws(11, "bits");
  int refused = 0;
  for (const std::string& file :
       {kImages + "420.jpg", kImages + "progressive.jpg", kImages + "cmyk.jpg",
        kImages + "rgb_interlaced.png", kImages + "palette_2.png",
        kImages + "gray_1_interlaced.png", kImages + "rgba_16_interlaced.png",
        kDecoding + "animated_corner.png", kDecoding + "lossy_alpha.webp",
        kDecoding + "lossless.webp", kDecoding + "animated_corner.webp"}) {
    const std::string bytes = read_file(file, 1 << 20);
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
