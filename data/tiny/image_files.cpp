#include "data/tiny/image_files.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <jpeglib.h>

#include "base/check.h"

namespace facet::tiny {

std::string encode_jpeg(const RgbImage& image) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* buffer = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&jpeg, &buffer, &bytes);
  jpeg.image_width = static_cast<JDIMENSION>(image.width);
  jpeg.image_height = static_cast<JDIMENSION>(image.height);
  jpeg.input_components = 3;
  jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 92, TRUE);
  jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    const size_t offset = size_t{3} * jpeg.image_width * jpeg.next_scanline;
    JSAMPROW row = const_cast<JSAMPROW>(image.pixels.data() + offset);
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  std::string file(reinterpret_cast<const char*>(buffer), bytes);
  jpeg_destroy_compress(&jpeg);
  std::free(buffer);
  return file;
}

void write_image(const std::string& path, const RgbImage& image) {
  // Thousands of small files that can be drawn again: not flushed to the disk one by one.
  const std::string bytes = path.ends_with(".png") ? encode_png(image) : encode_jpeg(image);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  CHECK(file.good(), ExitCode::kIo, "{}: writing {} bytes failed", path, bytes.size());
}

}  // namespace facet::tiny
