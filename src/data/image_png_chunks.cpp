#include "data/image_png_chunks.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>

#include "base/check.h"

namespace facet {
namespace {

constexpr int64_t kPieceBytes = 65536;

int64_t big_endian_32(std::string_view data, size_t at = 0) {
  int64_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(data[at + i]);
  return value;
}

bool is_name(std::string_view type) {
  return type.size() == 4 && std::all_of(type.begin(), type.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
         });
}

bool is_image_data(std::string_view type) {
  return type == "IDAT" || type == "DDAT" || type == "fdAT";
}

bool is_allowed(int64_t bit_depth, int64_t color) {
  switch (color) {
    case 0:
      return bit_depth == 16 || bit_depth == 8 || bit_depth == 4 || bit_depth == 2 ||
             bit_depth == 1;
    case 3: return bit_depth == 8 || bit_depth == 4 || bit_depth == 2 || bit_depth == 1;
    case 2:
    case 4:
    case 6: return bit_depth == 16 || bit_depth == 8;
    default: return false;
  }
}

struct LeastSize {
  std::string_view type;
  size_t bytes;
};
constexpr LeastSize kLeastSizes[] = {{"IHDR", 13}, {"gAMA", 4},  {"sRGB", 1}, {"pHYs", 9},
                                     {"acTL", 8},  {"fcTL", 26}, {"fdAT", 4}};

// A transparent colour has a value for each channel; a palette has any number of alphas.
size_t least_transparency(PngColor color) {
  if (color == PngColor::kGray) return 2;
  return color == PngColor::kRgb ? 6 : 0;
}

}  // namespace

void PngChunks::damaged(const std::string& reason) const {
  fail(ExitCode::kBadData, "{}: damaged PNG: {}", name_, reason);
}

// Up to the end of the file.
std::string_view PngChunks::take(int64_t length) {
  const std::string_view taken = bytes_.substr(at_, static_cast<size_t>(length));
  at_ += taken.size();
  return taken;
}

std::string_view PngChunks::take_whole(int64_t length) {
  const std::string_view taken = take(length);
  if (static_cast<int64_t>(taken.size()) < length) damaged("the file is truncated");
  return taken;
}

std::optional<PngChunks::Chunk> PngChunks::next_chunk() {
  const std::string_view head = take(8);
  if (head.size() < 8 || !is_name(head.substr(4))) return std::nullopt;
  return Chunk{head.substr(4), big_endian_32(head)};
}

void PngChunks::check_sum(std::string_view type, std::string_view data) {
  uint32_t sum = 0;
  for (const std::string_view part : {type, data})
    sum = static_cast<uint32_t>(
        crc32_z(sum, reinterpret_cast<const Bytef*>(part.data()), part.size()));
  if (big_endian_32(take_whole(4)) != sum)
    damaged(fmt::format("wrong checksum of the chunk {}", type));
}

PngHeader PngChunks::read_header() {
  while (true) {
    const std::optional<Chunk> chunk = next_chunk();
    if (!chunk) damaged(fmt::format("no chunk at byte {}", at_));
    if (chunk->type == "IEND") damaged("it has no image data");
    if (chunk->type == "IDAT" || chunk->type == "fdAT") {
      begin_data(*chunk);
      break;
    }
    const std::string_view data = take_whole(chunk->length);
    read_chunk(chunk->type, data);
    check_sum(chunk->type, data);
  }
  if (!has_color_) damaged("no header with a colour type and bit depth that exist");
  if (!has_frame_) header_.box = {0, 0, header_.width, header_.height};
  const PngBox& box = header_.box;
  if (box.width == 0 || box.height == 0 || box.left + box.width > header_.width ||
      box.top + box.height > header_.height)
    damaged("the first frame does not lie in the image");
  return header_;
}

void PngChunks::begin_data(Chunk chunk) {
  data_left_ = chunk.length;
  if (chunk.type != "fdAT") return;
  read_chunk(chunk.type, take(std::min<int64_t>(chunk.length, 4)));
  data_left_ -= 4;
}

std::string_view PngChunks::next_data() {
  while (data_left_ == 0) {
    take(4);  // the checksum
    const std::optional<Chunk> chunk = next_chunk();
    if (!chunk || !is_image_data(chunk->type)) damaged("the image data end too early");
    begin_data(*chunk);
  }
  const int64_t length = std::min(data_left_, kPieceBytes);
  const std::string_view piece = take(length);
  if (piece.empty()) damaged("the file is truncated");
  data_left_ -= length;
  return piece;
}

void PngChunks::read_rest() {
  const bool animated = frames_ && *frames_ + (has_frame_ ? 0 : 1) > 1;
  take(data_left_);
  while (true) {
    take(4);
    const std::optional<Chunk> chunk = next_chunk();
    if (!chunk || chunk->type == "IEND" || (chunk->type == "fcTL" && animated)) return;
    read_chunk(chunk->type, take_whole(chunk->length));
  }
}

void PngChunks::read_chunk(std::string_view type, std::string_view data) {
  for (const LeastSize& least : kLeastSizes)
    if (type == least.type && data.size() < least.bytes)
      damaged(fmt::format("the chunk {} has only {} bytes", type, data.size()));
  if (type == "cHRM" && data.size() % 4 != 0) damaged("the chunk cHRM is cut");
  if (type == "tRNS" && has_color_ && data.size() < least_transparency(header_.color))
    damaged("the transparent colour is cut");
  if (type == "IHDR") read_image_header(data);
  if (type == "acTL") read_animation(data);
  if (type == "fcTL") read_frame(data);
  if (type == "fdAT") read_frame_data(data);
  if (type == "PLTE" && header_.color == PngColor::kPalette) header_.palette = data;
}

void PngChunks::read_image_header(std::string_view data) {
  header_.width = big_endian_32(data);
  header_.height = big_endian_32(data, 4);
  const auto bit_depth = static_cast<unsigned char>(data[8]);
  const auto color = static_cast<unsigned char>(data[9]);
  if (is_allowed(bit_depth, color)) {
    header_.bit_depth = bit_depth;
    header_.color = static_cast<PngColor>(color);
    has_color_ = true;
  }
  if (data[11] != 0) damaged("unknown filter method");
  header_.interlaced |= data[12] != 0;
}

// A second one takes the first back, and numbers that make no sense are none.
void PngChunks::read_animation(std::string_view data) {
  const int64_t frames = big_endian_32(data);
  if (frames_) {
    frames_.reset();
  } else if (frames > 0 && frames <= 0x80000000) {
    frames_ = frames;
  }
}

void PngChunks::read_frame(std::string_view data) {
  read_sequence_number(data);
  header_.box = {big_endian_32(data, 12), big_endian_32(data, 16), big_endian_32(data, 4),
                 big_endian_32(data, 8)};
  has_frame_ = true;
  const PngBox& box = header_.box;
  if (box.left + box.width > header_.width || box.top + box.height > header_.height)
    damaged("a frame does not lie in the image");
}

// Data of a frame begin with a number too.
void PngChunks::read_frame_data(std::string_view data) {
  if (sequence_number_ < 0) damaged("data of a frame without a frame");
  read_sequence_number(data);
}

// All chunks of an animation are counted.
void PngChunks::read_sequence_number(std::string_view data) {
  if (big_endian_32(data) != sequence_number_ + 1) damaged("the frames are not in order");
  ++sequence_number_;
}

}  // namespace facet
