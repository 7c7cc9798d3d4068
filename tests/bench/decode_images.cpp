// Decodes the image files named on standard input, one a line, and prints for each its size and the
// CRC of its pixels, or why it is refused. scripts/compare_images.py holds it against Pillow.
#include <fmt/core.h>
#include <zlib.h>

#include <iostream>
#include <string>

#include "base/check.h"
#include "data/image.h"

int main() {
  std::string path;
  while (std::getline(std::cin, path)) {
    try {
      const facet::RgbImage image = facet::load_image(path, facet::kDefaultMaxImagePixels);
      const auto crc = crc32_z(0, image.pixels.data(), image.pixels.size());
      fmt::print("{}\t{}\t{}\n", image.width, image.height, crc);
    } catch (const facet::Error& error) {
      fmt::print("refused\t{}\n", error.what());
    }
  }
}
