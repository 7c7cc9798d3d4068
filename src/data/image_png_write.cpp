#include <zlib.h>

#include "base/check.h"
#include "data/image.h"

namespace facet {
namespace {

using namespace std::string_view_literals;

std::string big_endian_32(int64_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

std::string chunk(std::string_view type, std::string_view data) {
  const std::string named = std::string(type) + std::string(data);
  const uLong sum = crc32_z(0, reinterpret_cast<const Bytef*>(named.data()), named.size());
  return big_endian_32(static_cast<int64_t>(data.size())) + named +
         big_endian_32(static_cast<int64_t>(sum));
}

// Each row begins with its filter: 1, differences to the pixel on the left.
std::string filtered_rows(const RgbImage& image) {
  std::string rows;
  rows.reserve(static_cast<size_t>(image.height * (1 + 3 * image.width)));
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    const size_t in_row = i % static_cast<size_t>(3 * image.width);
    if (in_row == 0) rows += '\1';
    rows += static_cast<char>(image.pixels[i] - (in_row < 3 ? 0 : image.pixels[i - 3]));
  }
  return rows;
}

std::string deflated(std::string_view data) {
  uLongf size = compressBound(data.size());
  std::string out(size, '\0');
  const int status = compress(reinterpret_cast<Bytef*>(out.data()), &size,
                              reinterpret_cast<const Bytef*>(data.data()), data.size());
  ASSERT(status == Z_OK, "zlib gives {} for {} bytes", status, data.size());
  out.resize(size);
  return out;
}

}  // namespace

std::string encode_png(const RgbImage& image) {
  const std::string header = big_endian_32(image.width) + big_endian_32(image.height) +
                             std::string("\x08\x02\0\0\0"sv);  // 8 bits a sample, RGB
  return "\x89PNG\r\n\x1A\n" + chunk("IHDR", header) +
         chunk("IDAT", deflated(filtered_rows(image))) + chunk("IEND", "");
}

}  // namespace facet
