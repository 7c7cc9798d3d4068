// What a file holds, by its first bytes whatever its name says. For messages: a file that cannot be
// read is often another one (a Git LFS pointer, an HTML error page, a compressed copy), and that is
// what must be told.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/input_file.h"

namespace facet {

enum class ContentKind : uint8_t {
  kUnknown,
  kEmpty,
  kZeros,  // zero bytes only: space that was reserved and never written
  kGitLfsPointer,
  kGitAnnexPointer,
  kHtml,
  kXml,
  kSvg,
  kUtf16,  // text, by its byte order mark; also UTF-32
  kJson,   // an object or array; a single record of JSON lines too
  kJsonLines,
  kGzip,
  kBzip2,
  kXz,
  kZstd,
  kSevenZip,
  kRar,
  kTar,
  kZip,
  kTorchZip,  // torch.save() since PyTorch 1.6
  kPickle,    // Python's, protocol 2 and later; torch.save() before 1.6
  kNumpy,
  kParquet,
  kArrow,
  kHdf5,
  kSafetensors,
  kGguf,
  kSqlite,
  kPdf,
  kAppleDouble,  // macOS's "._NAME" beside a file
  kElf,
  kJpeg,
  kPng,
  kGif,
  kBmp,
  kTiff,
  kWebp,
  kHeif,  // HEIC
  kAvif,
  kJpeg2000,
  kJpegXl,
  kIcon,
  kPsd,
  kVideo,  // MP4, QuickTime, AVI, Matroska
};

// Enough of a file's beginning for content_kind().
constexpr int64_t kContentKindBytes = 1024;
std::string beginning_of(const InputFile& file);

// `beginning`: the first kContentKindBytes of a file, or more, or all of it. JSON lines are told
// from JSON only if the first record ends within it.
ContentKind content_kind(std::string_view beginning);

// With its article: "a Git LFS pointer", "a GIF image"; "" for kUnknown.
const char* name_of(ContentKind kind);

// "a Git LFS pointer, not a safetensors file; fetch the file itself: git lfs pull", for an
// `expected` of "a safetensors file". "" for kUnknown: then the caller knows better what is wrong.
std::string not_what_was_expected(std::string_view beginning, std::string_view expected);

}  // namespace facet
