// From a decoded image to the pixels for a CLIP vision encoder: the steps of Transformers'
// CLIPImageProcessor (the slow, Pillow-based one), bit for bit.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "data/image.h"

namespace facet {

// The settings of preprocessor_config.json, with CLIPImageProcessor's defaults.
struct ClipPreprocessConfig {
  bool do_resize = true;
  bool do_rescale = true;
  bool do_normalize = true;
  int64_t shortest_edge = 224;  // the short side after resizing
  int64_t crop_size = 224;      // R: height and width of the centre crop
  double rescale_factor = 1.0 / 255.0;
  std::array<double, 3> image_mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> image_std = {0.26862954, 0.26130258, 0.27577711};
};

// Reads DIRECTORY/preprocessor_config.json, also where the settings lie under image_processor.
// Unsupported settings (another filter, a crop that is not square, no crop) are errors, and so is a
// file with none of the settings.
ClipPreprocessConfig read_clip_preprocess_config(const std::string& directory);

// The type that finished pixels are rounded to; fp16 for --compat visualchat.
enum class PixelRounding : uint8_t { kNone, kFp16 };

class ClipPreprocessor {
 public:
  // image_size > 0 (--image_size) replaces both the short side and the crop.
  explicit ClipPreprocessor(const ClipPreprocessConfig& config, int64_t image_size = 0,
                            PixelRounding rounding = PixelRounding::kNone);

  int64_t image_size() const { return config_.crop_size; }  // R

  // All that pixels depend on, in words.
  std::string text() const;

  // Resized and cropped, still 8 bits: (R, R, 3), padded with zeros if the image is smaller than
  // the crop.
  RgbImage resize_and_crop(const RgbImage& image) const;

  // Writes pixels_3RR: channels first, rescaled and normalised.
  void operator()(const RgbImage& image, float* pixels_3RR) const;

 private:
  ClipPreprocessConfig config_;
  std::array<std::array<float, 256>, 3> value_of_byte_;  // the result for every possible byte
};

}  // namespace facet
