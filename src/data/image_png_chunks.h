// The chunks of a PNG file (ISO/IEC 15948; those of animations: APNG), checked as far as
// Pillow 10.4 checks them and no further:
// - before the image data every chunk must be whole and have the right checksum; unknown ones are
//   skipped, critical or not;
// - checksums of the image data are not looked at;
// - behind it nothing need follow, but a chunk that begins there must be whole.
// Of what does not concern the pixels (text, colour profiles) only the sizes are checked.
//
// All functions throw Error(kBadData), with the file's name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace facet {

enum class PngColor : uint8_t { kGray = 0, kRgb = 2, kPalette = 3, kGrayAlpha = 4, kRgbAlpha = 6 };

// Where in the image a frame of an animation lies.
struct PngBox {
  int64_t left = 0;
  int64_t top = 0;
  int64_t width = 0;
  int64_t height = 0;
};

struct PngHeader {
  int64_t width = 0;
  int64_t height = 0;
  int64_t bit_depth = 0;  // of a sample
  PngColor color = PngColor::kGray;
  bool interlaced = false;
  std::string_view palette;  // 3 bytes a colour, at most 256 colours
  PngBox box;                // what the image data fill: all of the image, or the first frame
};

class PngChunks {
 public:
  // `bytes`: the whole file, beginning with PNG's signature.
  PngChunks(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  // Reads all chunks before the image data.
  PngHeader read_header();

  // Then: the image data, a piece after the other. Pieces end where Pillow's end, for zlib may
  // notice damage at a piece's end. Throws where the data end.
  std::string_view next_data();

  // When no more image data are wanted.
  void read_rest();

 private:
  struct Chunk {
    std::string_view type;
    int64_t length = 0;
  };

  [[noreturn]] void damaged(const std::string& reason) const;
  std::string_view take(int64_t length);
  std::string_view take_whole(int64_t length);
  std::optional<Chunk> next_chunk();
  void check_sum(std::string_view type, std::string_view data);
  void begin_data(Chunk chunk);

  void read_chunk(std::string_view type, std::string_view data);
  void read_image_header(std::string_view data);
  void read_animation(std::string_view data);
  void read_frame(std::string_view data);
  void read_frame_data(std::string_view data);
  void read_sequence_number(std::string_view data);

  std::string_view bytes_;
  const std::string& name_;
  size_t at_ = 8;
  int64_t data_left_ = 0;  // of the chunk of image data
  bool has_color_ = false;
  bool has_frame_ = false;
  std::optional<int64_t> frames_;  // of an animation
  int64_t sequence_number_ = -1;
  PngHeader header_;
};

}  // namespace facet
