// Compiled without contraction of a * b + c (see the Makefile): every operation rounds as in numpy.
#include "data/image_preprocess.h"

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/half.h"
#include "data/resize.h"
#include "io/hash.h"
#include "io/json.h"

namespace facet {
namespace {

constexpr int64_t kPillowBicubic = 3;
constexpr int64_t kMaxSide = 16384;

// A number or {"height": n, "width": n}.
int64_t read_square(const JsonValue& size) {
  if (size.is_integer()) return size.as_int();
  const int64_t height = size.at("height").as_int();
  if (size.at("width").as_int() != height) size.reject("only a square is supported");
  return height;
}

// `size` of CLIPImageProcessor: a number or {"shortest_edge": n}.
int64_t read_shortest_edge(const JsonValue& size) {
  if (size.is_integer()) return size.as_int();
  if (!size.find("shortest_edge"))
    size.reject(
        "expected a number or {\"shortest_edge\": n}; a fixed height and width is SigLIP's, with "
        "\"image_processor_type\": \"SiglipImageProcessor\"");
  return size.at("shortest_edge").as_int();
}

void read_channels(const JsonValue& root, std::string_view key, std::array<double, 3>& out) {
  const auto value = root.find(key);
  if (!value || value->is_null()) return;
  if (value->is_number()) {
    out.fill(value->as_double());
    return;
  }
  if (!value->is_array() || value->size() != 3) value->reject("expected a number or three numbers");
  for (int64_t c = 0; c < 3; ++c) out[static_cast<size_t>(c)] = value->at(c).as_double();
}

void check_side(const JsonValue& root, int64_t side, const char* key) {
  if (side < 1 || side > kMaxSide)
    root.reject(fmt::format("{} is {}; expected 1..{}", key, side, kMaxSide));
}

// The object with the settings: in files of whole models (LLaVA) it is the member image_processor.
// A file that has none of them is another kind of file: CLIP's defaults would be a guess.
JsonValue settings_of(const JsonValue& root) {
  constexpr const char* kSettings[] = {
      "size",         "crop_size",      "do_resize",  "do_center_crop", "do_rescale",
      "do_normalize", "rescale_factor", "image_mean", "image_std",      "resample"};
  const auto nested = root.find("image_processor");
  const JsonValue settings = nested && !nested->is_null() ? *nested : root;
  if (std::none_of(std::begin(kSettings), std::end(kSettings),
                   [&](const char* key) { return settings.find(key).has_value(); }))
    settings.reject(
        "none of the keys of an image processor (size, crop_size, image_mean, image_std, ...); is "
        "it the right file? CLIPImageProcessor().save_pretrained(directory) writes CLIP's");
  return settings;
}

enum class ProcessorKind : uint8_t { kClip, kSiglip, kLlava };

// CLIP's are what a file means that does not say whose it is.
ProcessorKind kind_of(const JsonValue& settings) {
  for (const char* key : {"image_processor_type", "feature_extractor_type"}) {
    const auto type = settings.find(key);
    if (!type || type->is_null()) continue;
    std::string_view name = type->as_string();
    for (const std::string_view variant : {"Fast", "Pil"})
      if (name.ends_with(variant)) name.remove_suffix(variant.size());
    if (name == "SiglipImageProcessor") return ProcessorKind::kSiglip;
    if (name == "LlavaImageProcessor") return ProcessorKind::kLlava;
    if (name == "CLIPImageProcessor" || name == "CLIPFeatureExtractor") return ProcessorKind::kClip;
    type->reject(
        fmt::format("{} is not supported; CLIPImageProcessor, SiglipImageProcessor and "
                    "LlavaImageProcessor are",
                    type->as_string()));
  }
  return ProcessorKind::kClip;
}

// SiglipImageProcessor has other defaults and cuts nothing off.
void read_siglip_sizes(const JsonValue& root, ImagePreprocessConfig& config) {
  config.resize_to = ResizeTo::kSquare;
  config.image_mean.fill(0.5);
  config.image_std.fill(0.5);
  if (const auto size = root.find("size"); size && !size->is_null())
    config.size = read_square(*size);
  config.crop_size = config.size;
  if (!config.do_resize)
    root.reject("do_resize false is not supported: all images must have one size");
}

void read_clip_sizes(const JsonValue& root, ImagePreprocessConfig& config) {
  if (const auto size = root.find("size"); size && !size->is_null())
    config.size = read_shortest_edge(*size);
  if (const auto crop = root.find("crop_size"); crop && !crop->is_null())
    config.crop_size = read_square(*crop);
  if (!root.get_bool("do_center_crop", true))
    root.reject("do_center_crop false is not supported: all images must have one size");
}

}  // namespace

std::optional<ImagePreprocessConfig> pixels_of_qwen_vl(const std::string& directory) {
  std::error_code ignored;
  if (std::filesystem::exists(directory + "/preprocessor_config.json", ignored) ||
      !std::filesystem::exists(directory + "/config.json", ignored))
    return std::nullopt;
  const JsonDocument document = JsonDocument::read_config(directory + "/config.json");
  const auto visual = document.root().find("visual");
  if (!visual || document.root().get_string("model_type", "") != "qwen") return std::nullopt;
  ImagePreprocessConfig config;
  config.resize_to = ResizeTo::kSquare;
  config.size = config.crop_size = visual->get_int("image_size", 448);
  check_side(*visual, config.size, "image_size");
  return config;
}

ImagePreprocessConfig read_image_preprocess_config(const std::string& directory) {
  if (const auto pixels = pixels_of_qwen_vl(directory)) return *pixels;
  const JsonDocument document = JsonDocument::read_config(directory + "/preprocessor_config.json");
  const JsonValue root = settings_of(document.root());
  ImagePreprocessConfig config;
  config.do_resize = root.get_bool("do_resize", true);
  config.do_rescale = root.get_bool("do_rescale", true);
  config.do_normalize = root.get_bool("do_normalize", true);
  config.rescale_factor = root.get_double("rescale_factor", config.rescale_factor);
  const ProcessorKind kind = kind_of(root);
  kind == ProcessorKind::kSiglip ? read_siglip_sizes(root, config) : read_clip_sizes(root, config);
  config.do_pad = kind == ProcessorKind::kLlava && root.get_bool("do_pad", false);
  check_side(root, config.size, "size");
  check_side(root, config.crop_size, "crop_size");
  read_channels(root, "image_mean", config.image_mean);
  read_channels(root, "image_std", config.image_std);
  for (const double std : config.image_std)
    if (!(std > 0)) root.reject("image_std must be positive");
  if (root.get_int("resample", kPillowBicubic) != kPillowBicubic)
    root.reject("resample: only 3 (bicubic) is supported");
  return config;
}

ImagePreprocessor::ImagePreprocessor(const ImagePreprocessConfig& config, int64_t image_size,
                                     PixelRounding rounding)
    : config_(config) {
  if (image_size > 0) config_.size = config_.crop_size = image_size;
  for (size_t c = 0; c < 3; ++c) {
    const float mean = static_cast<float>(config_.image_mean[c]);
    const float std = static_cast<float>(config_.image_std[c]);
    for (int byte = 0; byte < 256; ++byte) {
      // The product is computed in double and rounded to float; the rest is float.
      float value = static_cast<float>(byte);
      if (config_.do_rescale) value = static_cast<float>(byte * config_.rescale_factor);
      if (config_.do_normalize) value = (value - mean) / std;
      if (rounding == PixelRounding::kFp16) value = float_from_f16(f16_from_float(value));
      value_of_byte_[c][static_cast<size_t>(byte)] = value;
    }
  }
}

std::string ImagePreprocessor::text() const {
  const std::string values = hash_of(value_of_byte_.data(), sizeof value_of_byte_);
  const char* side = config_.resize_to == ResizeTo::kSquare ? "each side" : "short side";
  const auto [red, green, blue] = mean_colour();
  return fmt::format("{}{}centre crop of {}, values of bytes {}",
                     pads() ? fmt::format("squares with bars of {} {} {}, ", red, green, blue) : "",
                     config_.do_resize ? fmt::format("{} {}, ", side, config_.size) : "",
                     config_.crop_size, values);
}

// Cut to whole numbers, as int() does.
std::array<uint8_t, 3> ImagePreprocessor::mean_colour() const {
  std::array<uint8_t, 3> colour{};
  for (size_t c = 0; c < 3; ++c)
    colour[c] = static_cast<uint8_t>(std::clamp(config_.image_mean[c] * 255, 0.0, 255.0));
  return colour;
}

ImagePreprocessor::Placement ImagePreprocessor::place(int64_t image_width,
                                                      int64_t image_height) const {
  const int64_t crop = config_.crop_size;
  if (pads()) image_width = image_height = std::max(image_width, image_height);
  int64_t width = image_width, height = image_height;
  const int64_t size = config_.size;
  if (config_.do_resize && config_.resize_to == ResizeTo::kSquare) {
    width = height = size;
  } else if (config_.do_resize) {
    const int64_t shorter = std::min(width, height), longer = std::max(width, height);
    const int64_t new_longer =
        static_cast<int64_t>(static_cast<double>(size * longer) / static_cast<double>(shorter));
    height = image_width <= image_height ? new_longer : size;
    width = image_width <= image_height ? size : new_longer;
  }
  // Crop pixel (x, y) shows resized pixel (x + left, y + top); outside the image it stays zero.
  const auto floor_half = [](int64_t n) { return n >> 1; };
  const int64_t left = floor_half(width - crop), top = floor_half(height - crop);
  const Region region{std::max<int64_t>(left, 0), std::max<int64_t>(top, 0), std::min(width, crop),
                      std::min(height, crop)};
  return {width, height, region, region.x - left, region.y - top};
}

RgbImage ImagePreprocessor::resize_and_crop(const RgbImage& image) const {
  const int64_t crop = config_.crop_size;
  const auto [width, height, region, left, top] = place(image.width, image.height);
  RgbImage inner{region.width, region.height, {}};
  BicubicResizer resizer(width, height, region, [&, bytes = 3 * region.width](const uint8_t* rgb) {
    inner.pixels.insert(inner.pixels.end(), rgb, rgb + bytes);
  });
  SquarePadding padding(resizer, mean_colour());
  send_rows(image, pads() ? static_cast<RowSink&>(padding) : resizer);
  if (region.width == crop && region.height == crop) return inner;
  RgbImage result{crop, crop, {}};
  result.pixels.resize(static_cast<size_t>(3 * crop * crop));
  for (int64_t y = 0; y < region.height; ++y)
    std::copy_n(inner.pixels.begin() + 3 * region.width * y, 3 * region.width,
                result.pixels.begin() + 3 * ((top + y) * crop + left));
  return result;
}

void ImagePreprocessor::operator()(const RgbImage& image, float* pixels_3RR) const {
  ImagePixels pixels(*this, pixels_3RR);
  send_rows(image, pixels);
}

Region ImagePixels::begin(int64_t width, int64_t height) {
  const auto [new_width, new_height, region, left, top] = preprocessor_.place(width, height);
  const int64_t crop = preprocessor_.image_size();
  if (region.width < crop || region.height < crop)
    for (size_t c = 0; c < 3; ++c)
      std::fill_n(pixels_3RR_ + static_cast<int64_t>(c) * crop * crop, crop * crop,
                  preprocessor_.value_of_byte_[c][0]);
  next_pixel_ = top * crop + left;
  resizer_.emplace(new_width, new_height, region,
                   [this, crop, count = region.width](const uint8_t* rgb) {
                     put(next_pixel_, rgb, count);
                     next_pixel_ += crop;
                   });
  first_ = &*resizer_;
  if (preprocessor_.pads()) first_ = &padding_.emplace(*resizer_, preprocessor_.mean_colour());
  return first_->begin(width, height);
}

void ImagePixels::put(int64_t pixel, const uint8_t* rgb, int64_t count) {
  const int64_t plane = preprocessor_.image_size() * preprocessor_.image_size();
  const auto& [red, green, blue] = preprocessor_.value_of_byte_;
  float* out = pixels_3RR_ + pixel;
  for (int64_t i = 0; i < count; ++i, rgb += 3) {
    out[i] = red[rgb[0]];
    out[plane + i] = green[rgb[1]];
    out[2 * plane + i] = blue[rgb[2]];
  }
}

}  // namespace facet
