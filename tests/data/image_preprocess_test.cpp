#include "data/image_preprocess.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "golden.h"
#include "io/file.h"
#include "io/json.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

ImagePreprocessConfig parse(const std::string& json) {
  const std::string directory = testing::TempDir() + "facet_preprocess";
  std::filesystem::create_directories(directory);
  write_file(directory + "/preprocessor_config.json", json);
  return read_image_preprocess_config(directory);
}

TEST(ImagePreprocess, CropsAndValuesAreThoseOfTransformers) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/images.json");
  int64_t compared = 0;
  for (const JsonValue record : golden.root().at("images")) {
    if (record.get_bool("refused", false)) continue;
    SCOPED_TRACE(std::string(record.at("file").as_string()));
    const std::string file(record.at("file").as_string());
    const RgbImage image = load_image(file, kDefaultMaxImagePixels);
    for (const JsonValue crop : record.at("crops")) {
      ImagePreprocessConfig config;
      config.size = crop.at("size").as_int();
      config.crop_size = crop.at("crop").as_int();
      const ImagePreprocessor preprocess(config);
      EXPECT_EQ(crc_of(preprocess.resize_and_crop(image).pixels), crop.at("bytes").as_int());
      std::vector<float> pixels(static_cast<size_t>(3 * config.crop_size * config.crop_size),
                                std::numeric_limits<float>::quiet_NaN());
      ImagePixels by_rows(preprocess, pixels.data());
      load_image(file, kDefaultMaxImagePixels, by_rows);
      EXPECT_EQ(crc_of(pixels), crop.at("values").as_int());
      ++compared;
    }
  }
  EXPECT_GE(compared, 170);
}

TEST(ImagePreprocess, PaddedSquaresAreThoseOfTransformers) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/llava_images.json");
  int64_t compared = 0;
  for (const JsonValue record : golden.root().at("images")) {
    const std::string file(record.at("file").as_string());
    SCOPED_TRACE(file);
    const int64_t size = record.at("size").as_int(), crop = record.at("crop").as_int();
    const ImagePreprocessor preprocess(parse(fmt::format(
        R"({{"image_processor_type": "LlavaImageProcessorFast", "do_pad": true,
             "size": {{"shortest_edge": {}}}, "crop_size": {{"height": {}, "width": {}}}}})",
        size, crop, crop)));
    std::vector<float> pixels(static_cast<size_t>(3 * crop * crop));
    ImagePixels by_rows(preprocess, pixels.data());
    load_image(file, kDefaultMaxImagePixels, by_rows);
    ASSERT_EQ(crc_of(pixels), record.at("values").as_int()) << size;
    std::vector<float> at_once(pixels.size());
    preprocess(load_image(file, kDefaultMaxImagePixels), at_once.data());
    EXPECT_EQ(at_once, pixels);
    // What is shown of it for inspection is the same picture.
    ImagePreprocessConfig bytes;
    bytes.do_pad = true;
    bytes.do_rescale = bytes.do_normalize = false;
    bytes.size = size;
    bytes.crop_size = crop;
    const ImagePreprocessor as_bytes(bytes);
    const RgbImage image = load_image(file, kDefaultMaxImagePixels);
    as_bytes(image, at_once.data());
    const RgbImage shown = as_bytes.resize_and_crop(image);
    for (int64_t i = 0; i < crop * crop; ++i)
      for (int64_t c = 0; c < 3; ++c)
        ASSERT_EQ(shown.pixels[static_cast<size_t>(3 * i + c)],
                  at_once[static_cast<size_t>(c * crop * crop + i)]);
    ++compared;
  }
  EXPECT_EQ(compared, 18);
}

// Only LlavaImageProcessor knows the key.
TEST(ImagePreprocess, OthersDoNotPad) {
  EXPECT_FALSE(parse(R"({"size": 8, "do_pad": true})").do_pad);
  EXPECT_FALSE(parse(R"({"image_processor_type": "LlavaImageProcessor", "size": 8})").do_pad);
}

TEST(ImagePreprocess, SquaresAreThoseOfTransformers) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/images.json");
  int64_t compared = 0;
  for (const JsonValue record : golden.root().at("images")) {
    if (record.get_bool("refused", false)) continue;
    SCOPED_TRACE(std::string(record.at("file").as_string()));
    const RgbImage image =
        load_image(std::string(record.at("file").as_string()), kDefaultMaxImagePixels);
    for (const JsonValue square : record.at("squares")) {
      const int64_t side = square.at("size").as_int();
      const ImagePreprocessor preprocess(parse(fmt::format(
          R"({{"image_processor_type": "SiglipImageProcessor", "size": {{"height": {0}, "width": {0}}}}})",
          side)));
      EXPECT_EQ(crc_of(preprocess.resize_and_crop(image).pixels), square.at("bytes").as_int());
      std::vector<float> pixels(static_cast<size_t>(3 * side * side));
      preprocess(image, pixels.data());
      EXPECT_EQ(crc_of(pixels), square.at("values").as_int());
      ++compared;
    }
  }
  EXPECT_GE(compared, 68);
}

TEST(ImagePreprocess, TheClassOfTheProcessorDecides) {
  const ImagePreprocessConfig siglip =
      parse(R"({"image_processor_type": "SiglipImageProcessorFast", "crop_size": 7})");
  EXPECT_EQ(siglip.resize_to, ResizeTo::kSquare);
  EXPECT_EQ(siglip.size, 224);
  EXPECT_EQ(siglip.crop_size, 224);
  EXPECT_EQ(siglip.image_mean[2], 0.5);
  EXPECT_EQ(siglip.image_std[0], 0.5);
  EXPECT_NE(ImagePreprocessor(siglip).text(), ImagePreprocessor({}).text());
  EXPECT_EQ(ImagePreprocessor(siglip, 300).image_size(), 300);
  EXPECT_EQ(parse(R"({"feature_extractor_type": "CLIPFeatureExtractor", "size": 30})").resize_to,
            ResizeTo::kShortestEdge);
  EXPECT_TRUE(mentions(
      error_of([] { parse(R"({"image_processor_type": "ViTImageProcessor", "size": 30})"); }),
      "ViTImageProcessor is not supported; CLIPImageProcessor, SiglipImageProcessor and"));
}

TEST(ImagePreprocess, ReadsBothFormsOfSizes) {
  const ImagePreprocessConfig old_form =
      parse(R"({"size": 30, "crop_size": 20, "image_mean": [0.5, 0.25, 0.125], "image_std": 0.5})");
  EXPECT_EQ(old_form.size, 30);
  EXPECT_EQ(old_form.crop_size, 20);
  EXPECT_EQ(old_form.image_mean[1], 0.25);
  EXPECT_EQ(old_form.image_std[2], 0.5);
  const ImagePreprocessConfig new_form =
      parse(R"({"size": {"shortest_edge": 30}, "crop_size": {"height": 20, "width": 20},
                "resample": 3, "do_normalize": false})");
  EXPECT_EQ(new_form.size, 30);
  EXPECT_EQ(new_form.crop_size, 20);
  EXPECT_FALSE(new_form.do_normalize);
}

// fp16 values as numpy.float16 gives them.
TEST(ImagePreprocess, PixelsOfTheOriginalAreRoundedToFp16) {
  ImagePreprocessConfig config;
  config.size = config.crop_size = 1;
  config.rescale_factor = 1;
  config.image_std = {3, 3, 3};
  config.image_mean = {0, 4, 255};
  const ImagePreprocessor preprocess(config, 0, PixelRounding::kFp16);
  float pixels[3] = {};
  preprocess(RgbImage{1, 1, {1, 1, 254}}, pixels);
  EXPECT_EQ(pixels[0], 0.333251953125f);
  EXPECT_EQ(pixels[1], -1.0f);
  EXPECT_EQ(pixels[2], -0.333251953125f);
  preprocess(RgbImage{1, 1, {254, 0, 255}}, pixels);
  EXPECT_EQ(pixels[0], 84.6875f);
  EXPECT_EQ(pixels[1], -1.3330078125f);
  EXPECT_EQ(pixels[2], 0.0f);
}

TEST(ImagePreprocess, OtherArithmeticIsRefused) {
  for (const char* json :
       {R"({"resample": 2})", R"({"do_center_crop": false})",
        R"({"size": {"height": 3, "width": 4}})", R"({"crop_size": {"height": 3, "width": 4}})",
        R"({"size": 0})", R"({"crop_size": -1})", R"({"image_std": [1, 0, 1]})",
        R"({"image_processor_type": "SiglipImageProcessor", "size": {"shortest_edge": 3}})",
        R"({"image_processor_type": "SiglipImageProcessor", "do_resize": false})",
        R"({"image_mean": [1, 2]})", R"({"size": "big"})", "[]", "{"}) {
    SCOPED_TRACE(json);
    EXPECT_THROW(parse(json), Error);
  }
}

TEST(ImagePreprocess, SettingsMayLieUnderImageProcessor) {
  const ImagePreprocessConfig config = parse(
      R"({"image_processor": {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40},
          "image_mean": [0.86, 0.5, 0.25]}, "processor_class": "LlavaProcessor", "size": 7})");
  EXPECT_EQ(config.size, 48);
  EXPECT_EQ(config.crop_size, 40);
  EXPECT_EQ(config.image_mean[0], 0.86);
}

TEST(ImagePreprocess, AFileWithNoneOfTheSettingsIsRefused) {
  for (const char* json :
       {"{}", R"({"processor_class": "CLIPProcessor"})", R"({"image_processor": {}})",
        R"({"model_type": "clip", "image_size": 224})",
        R"({"image_processor": {"image_processor_type": "x"}, "size": 7})"}) {
    SCOPED_TRACE(json);
    EXPECT_TRUE(mentions(error_of([&] { parse(json); }), "none of the keys of an image processor"));
  }
}

TEST(ImagePreprocess, ImageSizeReplacesBothSizes) {
  ImagePreprocessConfig config;
  EXPECT_EQ(ImagePreprocessor(config).image_size(), 224);
  const ImagePreprocessor larger(config, 300);
  EXPECT_EQ(larger.image_size(), 300);
  const RgbImage image =
      larger.resize_and_crop(load_image(kGoldenDir + "/images/rgb.png", kDefaultMaxImagePixels));
  EXPECT_EQ(image.width, 300);
  EXPECT_NE(image.pixels.front() + image.pixels.back(), 0) << "the short side was not resized";
}

// A picture of one row would be resized to a target of gigabytes; only the crop is computed.
TEST(ImagePreprocess, ExtremeShapesAreCheap) {
  RgbImage line{100'000, 1, std::vector<uint8_t>(300'000, 200)};
  const RgbImage crop = ImagePreprocessor({}).resize_and_crop(line);
  EXPECT_EQ(crop.width, 224);
  for (const uint8_t byte : crop.pixels) ASSERT_EQ(byte, 200);
}

TEST(ImagePreprocess, StepsCanBeSwitchedOff) {
  ImagePreprocessConfig config;
  config.do_resize = config.do_rescale = config.do_normalize = false;
  config.crop_size = 5;
  RgbImage image{3, 3, std::vector<uint8_t>(27, 9)};
  std::vector<float> pixels(75, std::numeric_limits<float>::quiet_NaN());
  ImagePreprocessor{config}(image, pixels.data());
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 5; ++x) {
      const bool inside = x >= 1 && x <= 3 && y >= 1 && y <= 3;
      EXPECT_EQ(pixels[static_cast<size_t>(5 * y + x)], inside ? 9 : 0);
    }
}

}  // namespace
}  // namespace facet
