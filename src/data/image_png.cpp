// The pixels of a PNG file: inflated row by row, unfiltered, and put at their places as RGB. zlib
// is called as Pillow 10.4 calls it, so that damaged data end at the same byte: a stream that ends
// too early by itself leaves the remaining pixels 0, one that the file cuts off is an error.
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <optional>

#include "base/check.h"
#include "data/image_codecs.h"
#include "data/image_png_chunks.h"

namespace facet {
namespace {

// Some rows are held at a time. JPEG and WebP have shorter ones by themselves.
constexpr int64_t kMaxRowPixels = int64_t{1} << 18;

// The pixels of a pass: every dx-th of every dy-th row.
struct Pass {
  int64_t x;
  int64_t y;
  int64_t dx;
  int64_t dy;
};
constexpr Pass kAdam7[] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                           {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
constexpr Pass kOnePass[] = {{0, 0, 1, 1}};

int64_t channels_of(PngColor color) {
  switch (color) {
    case PngColor::kRgb: return 3;
    case PngColor::kGrayAlpha: return 2;
    case PngColor::kRgbAlpha: return 4;
    default: return 1;
  }
}

// The RGB values of gray levels and of palette indices.
using ColorTable = std::array<std::array<uint8_t, 3>, 256>;

ColorTable color_table(const PngHeader& header) {
  ColorTable table{};  // an index beyond the palette is black
  const int64_t levels = int64_t{1} << std::min<int64_t>(header.bit_depth, 8);
  for (int64_t i = 0; i < levels && header.color != PngColor::kPalette; ++i)
    table[static_cast<size_t>(i)].fill(static_cast<uint8_t>(255 * i / (levels - 1)));
  for (size_t i = 0; i + 2 < header.palette.size(); i += 3)
    for (size_t c = 0; c < 3; ++c) table[i / 3][c] = static_cast<uint8_t>(header.palette[i + c]);
  return table;
}

int paeth(int left, int above, int above_left) {
  const int from_left = std::abs(above - above_left);
  const int from_above = std::abs(left - above_left);
  const int from_above_left = std::abs(left + above - 2 * above_left);
  if (from_left <= from_above && from_left <= from_above_left) return left;
  return from_above <= from_above_left ? above : above_left;
}

// Adds to each of `length` bytes what the filter predicts from the pixel on the left and the row
// above. `pixel`: its bytes, at least 1; as many zeros lie before both rows. False if there is no
// such filter.
bool unfilter(int filter, uint8_t* row, const uint8_t* above, int64_t length, int64_t pixel) {
  const auto add = [=](auto prediction) {
    for (int64_t i = 0; i < length; ++i) row[i] = static_cast<uint8_t>(row[i] + prediction(i));
    return true;
  };
  switch (filter) {
    case 0: return true;
    case 1: return add([=](int64_t i) { return row[i - pixel]; });
    case 2: return add([=](int64_t i) { return above[i]; });
    case 3: return add([=](int64_t i) { return (row[i - pixel] + above[i]) / 2; });
    case 4:
      return add([=](int64_t i) { return paeth(row[i - pixel], above[i], above[i - pixel]); });
    default: return false;
  }
}

// Where a row of pixels begins, and how far apart they are.
struct RgbRow {
  uint8_t* first;
  int64_t step;  // bytes
  int64_t pixels;
};

// samples: 8 or 16 bits each, `channels` to a pixel; of 16 bits the first byte counts.
void put_colors(const uint8_t* samples, int64_t channels, int64_t sample_bytes, RgbRow out) {
  const int64_t green = sample_bytes;
  const int64_t blue = 2 * sample_bytes;
  for (int64_t i = 0; i < out.pixels;
       ++i, out.first += out.step, samples += channels * sample_bytes) {
    out.first[0] = samples[0];
    out.first[1] = samples[green];
    out.first[2] = samples[blue];
  }
}

void put_color(const std::array<uint8_t, 3>& color, uint8_t* out) {
  out[0] = color[0];
  out[1] = color[1];
  out[2] = color[2];
}

// Gray levels and palette indices of 1, 2, 4 or 8 bits; pixel_bytes: those of 16 bits with alpha.
void put_indexed(const uint8_t* samples, int64_t bit_depth, int64_t pixel_bytes,
                 const ColorTable& colors, RgbRow out) {
  for (int64_t i = 0; i < out.pixels; ++i, out.first += out.step) {
    const int64_t bit = bit_depth * i;
    const int index = bit_depth < 8
                          ? samples[bit / 8] >> (8 - bit_depth - bit % 8) & ((1 << bit_depth) - 1)
                          : samples[i * pixel_bytes];
    put_color(colors[static_cast<size_t>(index)], out.first);
  }
}

// 16-bit gray is not scaled but clamped, as Pillow does it: all from 256 up is white.
void put_gray_16(const uint8_t* samples, const ColorTable& colors, RgbRow out) {
  for (int64_t i = 0; i < out.pixels; ++i, out.first += out.step, samples += 2)
    put_color(colors[samples[0] == 0 ? samples[1] : 255], out.first);
}

class PngPixels {
 public:
  PngPixels(const PngHeader& header, const std::string& name, RowSink& sink)
      : header_(header), name_(name), sink_(sink), colors_(color_table(header)) {
    bits_ = header.bit_depth * channels_of(header.color);
    pixel_ = (bits_ + 7) / 8;
    CHECK(header.width <= kMaxRowPixels, ExitCode::kBadData,
          "{}: rows of {} pixels are too long; up to {} are read", name, header.width,
          kMaxRowPixels);
    row_.resize(static_cast<size_t>(pixel_ + row_bytes(header.box.width)));
    above_.resize(row_.size());
    if (header.interlaced) passes_ = kAdam7, passes_left_ = std::size(kAdam7);
    begin_pass();
    // Pixels that the data do not reach have the value 0.
    if (header.color == PngColor::kPalette) background_ = colors_[0];
    if (comes_by_rows())
      band_.emplace(header.width, header.height, sink);
    else
      make_canvas();
    CHECK(inflateInit(&stream_) == Z_OK, ExitCode::kBadData, "{}: zlib: no memory", name);
  }
  ~PngPixels() { inflateEnd(&stream_); }
  PngPixels(const PngPixels&) = delete;
  PngPixels& operator=(const PngPixels&) = delete;

  // When there are no more data: the rows that were not reached, or all of a canvas.
  void finish() {
    if (!band_) return send_rows(canvas_, sink_);
    for (; y_ < header_.height; ++y_) fill({band_->next_row(), 3, header_.width});
    band_->finish();
  }

  // Takes more compressed data. True when the image is complete or its stream has ended.
  bool add(std::string_view data) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
    stream_.avail_in = static_cast<uInt>(data.size());
    while (stream_.avail_in > 0) {
      const int status = inflate_row();
      if (filled_ < 1 + length_) return false;
      filled_ = 0;
      finish_row();
      if (!next_row() || status == Z_STREAM_END) return true;
      row_.swap(above_);
    }
    return false;
  }

 private:
  int64_t row_bytes(int64_t pixels) const { return (bits_ * pixels + 7) / 8; }

  bool comes_by_rows() const {
    return !header_.interlaced && header_.box.width == header_.width &&
           header_.box.height == header_.height;
  }

  void make_canvas() {
    canvas_ = {header_.width, header_.height, {}};
    canvas_.pixels.resize(static_cast<size_t>(3 * header_.width * header_.height));
    fill({canvas_.pixels.data(), 3, header_.width * header_.height});
  }

  void fill(RgbRow out) const {
    for (int64_t i = 0; i < out.pixels; ++i, out.first += out.step)
      put_color(background_, out.first);
  }

  int inflate_row() {
    stream_.next_out = row_.data() + pixel_ - 1 + filled_;
    stream_.avail_out = static_cast<uInt>(1 + length_ - filled_);
    const int status = inflate(&stream_, Z_NO_FLUSH);
    CHECK(status >= 0, ExitCode::kBadData, "{}: damaged PNG: {}", name_,
          stream_.msg ? stream_.msg : "the compressed data are wrong");
    filled_ = 1 + length_ - stream_.avail_out;
    return status;
  }

  void finish_row() {
    uint8_t* samples = row_.data() + pixel_;
    const int filter = samples[-1];
    samples[-1] = 0;
    CHECK(unfilter(filter, samples, above_.data() + pixel_, length_, pixel_), ExitCode::kBadData,
          "{}: damaged PNG: there is no filter {}", name_, filter);
    put_row(samples, {place_of_row(), 3 * passes_->dx, columns_});
  }

  uint8_t* place_of_row() {
    if (band_) return band_->next_row();
    // Pillow puts an interlaced frame at the corner of the image.
    const int64_t left = header_.interlaced ? 0 : header_.box.left;
    const int64_t top = header_.interlaced ? 0 : header_.box.top;
    return &canvas_
                .pixels[static_cast<size_t>(3 * ((top + y_) * canvas_.width + left + passes_->x))];
  }

  void put_row(const uint8_t* samples, RgbRow out) const {
    const int64_t channels = channels_of(header_.color);
    if (channels >= 3) {
      put_colors(samples, channels, header_.bit_depth / 8, out);
    } else if (bits_ == 16 && channels == 1) {
      put_gray_16(samples, colors_, out);
    } else {
      put_indexed(samples, header_.bit_depth, pixel_, colors_, out);
    }
  }

  void begin_pass() {
    y_ = passes_->y;
    columns_ = (header_.box.width - passes_->x + passes_->dx - 1) / passes_->dx;
    length_ = row_bytes(columns_);
  }

  // False after the last row. Passes without pixels are left out.
  bool next_row() {
    y_ += passes_->dy;
    while (y_ >= header_.box.height || columns_ == 0) {
      if (--passes_left_ == 0) return false;
      ++passes_;
      begin_pass();
      std::fill(row_.begin(), row_.end(), uint8_t{0});  // it becomes the row above
    }
    return true;
  }

  const PngHeader& header_;
  const std::string& name_;
  RowSink& sink_;
  ColorTable colors_;
  std::array<uint8_t, 3> background_{};
  std::optional<RowBand> band_;  // rows from above to below, or
  RgbImage canvas_;              // the whole image
  int64_t bits_ = 0;             // of a pixel
  int64_t pixel_ = 0;            // the same in bytes, at least 1
  z_stream stream_{};
  // `pixel_` bytes, of which the last holds the filter's number and then 0, and the samples.
  std::vector<uint8_t> row_;
  std::vector<uint8_t> above_;
  int64_t filled_ = 0;  // of the filter's number and the samples
  const Pass* passes_ = kOnePass;
  size_t passes_left_ = 1;
  int64_t y_ = 0;
  int64_t columns_ = 0;
  int64_t length_ = 0;  // bytes of the samples of a row of the pass
};

}  // namespace

void decode_png(std::string_view bytes, const std::string& name, int64_t max_pixels,
                RowSink& sink) {
  PngChunks chunks(bytes, name);
  const PngHeader header = chunks.read_header();
  check_pixel_limit(header.width, header.height, max_pixels, name);
  CHECK(header.palette.size() / 3 <= 256, ExitCode::kBadData,
        "{}: damaged PNG: a palette of {} colours", name, header.palette.size() / 3);
  PngPixels pixels(header, name, sink);
  while (!pixels.add(chunks.next_data())) {
  }
  chunks.read_rest();
  pixels.finish();
}

}  // namespace facet
