#include "io/content_kind.h"

#include <gtest/gtest.h>

#include <string>

namespace facet {
namespace {

using namespace std::string_view_literals;

TEST(ContentKind, FilesAreRecognisedByTheirFirstBytes) {
  const std::string tar = std::string(257, 'x') + "ustar  ";
  struct Case {
    std::string_view bytes;
    std::string_view name;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
            "a Git LFS pointer"},
           {"/annex/objects/SHA256E-s1--ab", "a git-annex pointer"},
           {"<html>404</html>", "an HTML page"},
           {"\n\n <!DOCTYPE HTML PUBLIC>", "an HTML page"},
           {"\xEF\xBB\xBF<Html lang=de>", "an HTML page"},
           {"<?xml version=\"1.0\"?><Error>NoSuchKey</Error>", "an XML document"},
           {"<?xml version=\"1.0\"?>\n<svg width=\"1\">", "an SVG drawing"},
           {"\xFF\xFE{\0"sv, "UTF-16 text"},
           {"\x1F\x8B\x08\0"sv, "gzip-compressed"},
           {"BZh91AY", "bzip2-compressed"},
           {"\xFD\x37zXZ\0\0"sv, "xz-compressed"},
           {"\x28\xB5\x2F\xFD\x04", "zstd-compressed"},
           {tar, "a tar archive"},
           {"PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0archive/data.pklFB"sv,
            "a PyTorch pickle (zip)"},
           {"PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0letter.txt"sv,
            "a zip archive"},
           {"\x80\x02\x8a\x0alG"sv, "a Python pickle"},
           {"\x80\x04\x95\x10\0\0\0"sv, "a Python pickle"},
           {"\x93NUMPY\1\0"sv, "a NumPy array"},
           {"PAR1\x15", "a Parquet table"},
           {"\x89HDF\r\n\x1A\n\0"sv, "an HDF5 file"},
           {"\x10\0\0\0\0\0\0\0{\"a\": {}}"sv, "a safetensors file"},
           {"\x1F\x8B\0\0\0\0\0\0{\"a\": {}}"sv, "a safetensors file"},
           {"GGUF\3\0\0\0"sv, "a GGUF model"},
           {"SQLite format 3\0\x10"sv, "an SQLite database"},
           {"\xFF\xD8\xFF\xE0", "a JPEG image"},
           {"\x89PNG\r\n\x1A\n", "a PNG image"},
           {"GIF89a", "a GIF image"},
           {"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"sv, "a BMP image"},
           {"II*\0\x08"sv, "a TIFF image"},
           {"RIFF\x10\0\0\0WEBPVP8 "sv, "a WebP image"},
           {"\0\0\0\x18"
            "ftypheic"sv,
            "a HEIF image"},
           {"\0\0\0\x18"
            "ftypavif"sv,
            "an AVIF image"},
           {"\0\0\0\x18"
            "ftypavis"sv,
            "an AVIF image"},
           {"\0\0\0\x18"
            "ftypisom"sv,
            "a video"},
           {"[{\"a\": 1}]", "JSON"},
           {"{\"a\": \"}\\\"{\"}\n", "JSON"},
           {"{\"a\": \"}\"}\n{\"a\": 2", "JSON lines"},
           {"[1]\r\n[2]\r\n", "JSON lines"},
           {"\0\0\0\0\0"sv, "a file of zero bytes only"},
           {"", "an empty file"},
       })
    EXPECT_EQ(name_of(content_kind(c.bytes)), c.name) << c.bytes;
}

TEST(ContentKind, WhatIsNotKnownHasNoName) {
  for (const std::string_view bytes :
       {"BM is how this sentence begins"sv, "version of a text"sv, "{no json"sv, "  \n"sv,
        "\x80\x80\x80"sv, "\0x"sv, "<p>"sv, "P"sv, "RIFF"sv, "\n\x0e\n\x05<unk>"sv}) {
    EXPECT_EQ(content_kind(bytes), ContentKind::kUnknown) << bytes;
    EXPECT_EQ(not_what_was_expected(bytes, "a text"), "");
  }
}

TEST(ContentKind, AMessageSaysWhatToDo) {
  EXPECT_EQ(not_what_was_expected("version https://git-lfs.github.com/spec/v1\n", "a JPEG image"),
            "a Git LFS pointer, not a JPEG image; fetch the file itself: git lfs pull");
  EXPECT_EQ(not_what_was_expected("\x1F\x8B\x08", "JSON"),
            "gzip-compressed, not JSON; unpack it: gunzip");
}

// No beginning of any file may be read beyond its end.
TEST(ContentKind, EveryPrefixOfEveryKindIsSafe) {
  for (int first = 0; first < 256; ++first)
    for (const std::string_view rest :
         {""sv, "K\3\4"sv, "\x02\x8a"sv, "IFF\1\1\1\1WEB"sv, "\""sv}) {
      const std::string bytes = static_cast<char>(first) + std::string(rest);
      for (size_t n = 0; n <= bytes.size(); ++n) content_kind(std::string(bytes, 0, n));
    }
}

}  // namespace
}  // namespace facet
