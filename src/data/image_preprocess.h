// From a decoded image to the pixels for a vision encoder: the steps of Transformers'
// CLIPImageProcessor, SiglipImageProcessor and LlavaImageProcessor (the slow, Pillow-based ones),
// bit for bit.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "data/image.h"
#include "data/resize.h"
#include "data/square_padding.h"

namespace facet {

// What an image's size becomes before the centre is cut out.
enum class ResizeTo : uint8_t { kShortestEdge, kSquare };

// The settings of preprocessor_config.json, with CLIPImageProcessor's defaults.
struct ImagePreprocessConfig {
  bool do_pad = false;  // first to a square, with bars of the mean colour
  bool do_resize = true;
  bool do_rescale = true;
  bool do_normalize = true;
  ResizeTo resize_to = ResizeTo::kShortestEdge;
  int64_t size = 224;       // the short side, or each side, after resizing
  int64_t crop_size = 224;  // R: height and width of the centre crop
  double rescale_factor = 1.0 / 255.0;
  std::array<double, 3> image_mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> image_std = {0.26862954, 0.26130258, 0.27577711};
};

// Reads DIRECTORY/preprocessor_config.json, also where the settings lie under image_processor.
// Unsupported settings (another class of image processor, another filter, what is not square, no
// crop) are errors, and so is a file with none of the settings. Where there is no file, but the
// config.json of Qwen-VL, whose own code makes its pixels: as that does.
ImagePreprocessConfig read_image_preprocess_config(const std::string& directory);

// The pixels of the second case, none in the first.
std::optional<ImagePreprocessConfig> pixels_of_qwen_vl(const std::string& directory);

// The type that finished pixels are rounded to; fp16 for --compat visualchat.
enum class PixelRounding : uint8_t { kNone, kFp16 };

class ImagePreprocessor {
 public:
  // image_size > 0 (--image_size) replaces both the size and the crop.
  explicit ImagePreprocessor(const ImagePreprocessConfig& config, int64_t image_size = 0,
                             PixelRounding rounding = PixelRounding::kNone);

  int64_t image_size() const { return config_.crop_size; }  // R
  bool pads() const { return config_.do_pad; }

  // All that pixels depend on, in words.
  std::string text() const;

  // Resized and cropped, still 8 bits: (R, R, 3), padded with zeros if the image is smaller than
  // the crop.
  RgbImage resize_and_crop(const RgbImage& image) const;

  // Writes pixels_3RR: channels first, rescaled and normalised.
  void operator()(const RgbImage& image, float* pixels_3RR) const;

 private:
  friend class ImagePixels;
  // Where an image comes to lie: its size after resizing, and which region of that is at (left,
  // top) of the crop.
  struct Placement {
    int64_t width, height;
    Region region;
    int64_t left, top;
  };
  Placement place(int64_t width, int64_t height) const;
  std::array<uint8_t, 3> mean_colour() const;

  ImagePreprocessConfig config_;
  std::array<std::array<float, 256>, 3> value_of_byte_;  // the result for every possible byte
};

// Makes pixels_3RR of an image while it is decoded. They are complete after the last row.
class ImagePixels : public RowSink {
 public:
  // The preprocessor must outlive it.
  ImagePixels(const ImagePreprocessor& preprocessor, float* pixels_3RR)
      : preprocessor_(preprocessor), pixels_3RR_(pixels_3RR) {}
  ImagePixels(const ImagePixels&) = delete;
  ImagePixels& operator=(const ImagePixels&) = delete;

  Region begin(int64_t width, int64_t height) override;
  void add(const uint8_t* rows, int64_t stride, int64_t count) override {
    first_->add(rows, stride, count);
  }

 private:
  void put(int64_t pixel, const uint8_t* rgb, int64_t count);

  const ImagePreprocessor& preprocessor_;
  float* pixels_3RR_;
  std::optional<BicubicResizer> resizer_;
  std::optional<SquarePadding> padding_;
  RowSink* first_ = nullptr;  // of these two
  int64_t next_pixel_ = 0;    // of the crop
};

}  // namespace facet
