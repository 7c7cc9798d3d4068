#include "io/content_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace facet {

namespace {

using namespace std::string_view_literals;

// Bytes that stand at a fixed place.
struct Signature {
  size_t offset;
  std::string_view bytes;
  ContentKind kind;
};

// In the order in which they are tried: the special before the general.
constexpr Signature kSignatures[] = {
    {0, "version https://git-lfs.github.com/spec/"sv, ContentKind::kGitLfsPointer},
    {0, "version https://hawser.github.com/spec/"sv, ContentKind::kGitLfsPointer},
    {0, "/annex/objects/"sv, ContentKind::kGitAnnexPointer},
    {0, "\xFF\xD8\xFF"sv, ContentKind::kJpeg},
    {0, "\x89PNG\r\n\x1A\n"sv, ContentKind::kPng},
    {0, "GIF87a"sv, ContentKind::kGif},
    {0, "GIF89a"sv, ContentKind::kGif},
    {0, "II*\0"sv, ContentKind::kTiff},
    {0, "MM\0*"sv, ContentKind::kTiff},
    {0, "II+\0"sv, ContentKind::kTiff},
    {0, "MM\0+"sv, ContentKind::kTiff},
    {0, "8BPS"sv, ContentKind::kPsd},
    {0, "\0\0\0\x0CjP  \r\n\x87\n"sv, ContentKind::kJpeg2000},
    {0, "\xFF\x4F\xFF\x51"sv, ContentKind::kJpeg2000},
    {0, "\0\0\0\x0CJXL \r\n\x87\n"sv, ContentKind::kJpegXl},
    {0, "\xFF\x0A"sv, ContentKind::kJpegXl},
    {0, "\0\0\1\0"sv, ContentKind::kIcon},
    {4, "ftypheic"sv, ContentKind::kHeif},
    {4, "ftypheix"sv, ContentKind::kHeif},
    {4, "ftyphevc"sv, ContentKind::kHeif},
    {4, "ftypmif1"sv, ContentKind::kHeif},
    {4, "ftypmsf1"sv, ContentKind::kHeif},
    {4, "ftypavif"sv, ContentKind::kAvif},
    {4, "ftypavis"sv, ContentKind::kAvif},
    {4, "ftyp"sv, ContentKind::kVideo},
    {0, "\x1A\x45\xDF\xA3"sv, ContentKind::kVideo},
    {0, "\x1F\x8B"sv, ContentKind::kGzip},
    {0, "BZh"sv, ContentKind::kBzip2},
    {0, "\xFD\x37zXZ\0"sv, ContentKind::kXz},
    {0, "\x28\xB5\x2F\xFD"sv, ContentKind::kZstd},
    {0, "7z\xBC\xAF\x27\x1C"sv, ContentKind::kSevenZip},
    {0, "Rar!\x1A\x07"sv, ContentKind::kRar},
    {257, "ustar"sv, ContentKind::kTar},
    {0, "\x93NUMPY"sv, ContentKind::kNumpy},
    {0, "PAR1"sv, ContentKind::kParquet},
    {0, "ARROW1"sv, ContentKind::kArrow},
    {0, "\x89HDF\r\n\x1A\n"sv, ContentKind::kHdf5},
    {0, "GGUF"sv, ContentKind::kGguf},
    {0, "SQLite format 3\0"sv, ContentKind::kSqlite},
    {0, "%PDF-"sv, ContentKind::kPdf},
    {0, "\0\5\x16\7"sv, ContentKind::kAppleDouble},
    {0, "\x7F\x45LF"sv, ContentKind::kElf},
    {0, "\xFF\xFE"sv, ContentKind::kUtf16},
    {0, "\xFE\xFF"sv, ContentKind::kUtf16},
    {0, "\0\0\xFE\xFF"sv, ContentKind::kUtf16},
};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool starts_with_word(std::string_view text, std::string_view lower_case) {
  return text.size() >= lower_case.size() &&
         std::equal(lower_case.begin(), lower_case.end(), text.begin(), [](char a, char b) {
           return a == std::tolower(static_cast<unsigned char>(b));
         });
}

std::string_view after_spaces(std::string_view text) {
  text.remove_prefix(
      static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_space) - text.begin()));
  return text;
}

// What follows the object or array at the begin of `text`; empty if it does not end within it.
std::string_view after_brackets(std::string_view text) {
  int64_t open = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '{' || c == '[')) {
      ++open;
    } else if (!in_string && (c == '}' || c == ']') && --open == 0) {
      return text.substr(i + 1);
    }
  }
  return "";
}

ContentKind json_kind(std::string_view text) {
  const std::string_view first = after_spaces(text.substr(1));
  const bool object = text[0] == '{' && (first.starts_with('"') || first.starts_with('}'));
  if (!object && text[0] != '[') return ContentKind::kUnknown;
  const std::string_view next = after_spaces(after_brackets(text));
  return next.starts_with(text[0]) ? ContentKind::kJsonLines : ContentKind::kJson;
}

ContentKind text_kind(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF"sv)) text.remove_prefix(3);
  text = after_spaces(text);
  if (text.empty()) return ContentKind::kUnknown;
  if (text[0] == '{' || text[0] == '[') return json_kind(text);
  for (const char* tag : {"<!doctype html", "<html", "<head", "<body", "<!--", "<script"})
    if (starts_with_word(text, tag)) return ContentKind::kHtml;
  if (starts_with_word(text, "<svg")) return ContentKind::kSvg;
  if (!starts_with_word(text, "<?xml")) return ContentKind::kUnknown;
  return text.find("<svg") != text.npos ? ContentKind::kSvg : ContentKind::kXml;
}

// A zip's first entry is NAME/data.pkl if PyTorch wrote it; its name begins at byte 30.
ContentKind zip_kind(std::string_view bytes) {
  const std::string_view name = bytes.substr(std::min<size_t>(30, bytes.size()), 256);
  return name.find("/data.pkl") != name.npos ? ContentKind::kTorchZip : ContentKind::kZip;
}

// Pickles begin with their protocol; protocol 4 and later with a frame behind it.
bool is_pickle(std::string_view bytes) {
  if (bytes.size() < 3 || bytes[0] != '\x80') return false;
  const char protocol = bytes[1];
  return protocol == 2 || protocol == 3 || ((protocol == 4 || protocol == 5) && bytes[2] == '\x95');
}

// Eight bytes of header length and the JSON header.
bool is_safetensors(std::string_view bytes) {
  return bytes.size() >= 10 && bytes[8] == '{' && bytes[4] == 0 && bytes[5] == 0 && bytes[6] == 0 &&
         bytes[7] == 0 && (after_spaces(bytes.substr(9)).starts_with('"') || bytes[9] == '}');
}

ContentKind container_kind(std::string_view bytes) {
  if (bytes.starts_with("PK\3\4"sv)) return zip_kind(bytes);
  if (is_pickle(bytes)) return ContentKind::kPickle;
  if (bytes.starts_with("RIFF"sv) && bytes.size() >= 12) {
    if (bytes.substr(8).starts_with("WEBP"sv)) return ContentKind::kWebp;
    if (bytes.substr(8).starts_with("AVI "sv)) return ContentKind::kVideo;
  }
  // Two letters prove little: the offset of the pixels must make sense too.
  if (bytes.starts_with("BM"sv) && bytes.size() >= 18 && bytes[12] == 0 && bytes[13] == 0 &&
      bytes[16] == 0 && bytes[17] == 0)
    return ContentKind::kBmp;
  return ContentKind::kUnknown;
}

std::string remedy(ContentKind kind) {
  switch (kind) {
    case ContentKind::kGitLfsPointer: return "fetch the file itself: git lfs pull";
    case ContentKind::kGitAnnexPointer: return "fetch the file itself: git annex get";
    case ContentKind::kEmpty:
    case ContentKind::kZeros:
    case ContentKind::kHtml:
    case ContentKind::kXml: return "download the file again";
    case ContentKind::kGzip: return "unpack it: gunzip";
    case ContentKind::kBzip2: return "unpack it: bunzip2";
    case ContentKind::kXz: return "unpack it: unxz";
    case ContentKind::kZstd: return "unpack it: unzstd";
    case ContentKind::kSevenZip:
    case ContentKind::kRar:
    case ContentKind::kZip:
    case ContentKind::kTar: return "unpack it";
    case ContentKind::kUtf16: return "convert it to UTF-8: iconv -f UTF-16 -t UTF-8";
    case ContentKind::kTorchZip:
      return "if it holds the weights of a model, it is looked for as pytorch_model.bin";
    case ContentKind::kPickle:
      return "if it holds a model, convert it in Python: save_pretrained(directory, "
             "safe_serialization=True)";
    case ContentKind::kAppleDouble: return "it belongs to macOS; take the file without \"._\"";
    default: return "is it the right file?";
  }
}

}  // namespace

std::string beginning_of(const InputFile& file) {
  std::string beginning(static_cast<size_t>(std::min(file.bytes(), kContentKindBytes)), '\0');
  file.read_at(0, beginning.data(), static_cast<int64_t>(beginning.size()));
  return beginning;
}

ContentKind content_kind(std::string_view beginning) {
  if (beginning.empty()) return ContentKind::kEmpty;
  // First, because it begins with a number: some lengths of a header look like other signatures.
  if (is_safetensors(beginning)) return ContentKind::kSafetensors;
  for (const Signature& signature : kSignatures)
    if (beginning.size() > signature.offset &&
        beginning.substr(signature.offset).starts_with(signature.bytes))
      return signature.kind;
  const ContentKind container = container_kind(beginning);
  if (container != ContentKind::kUnknown) return container;
  if (beginning.find_first_not_of('\0') == beginning.npos) return ContentKind::kZeros;
  return text_kind(beginning);
}

const char* name_of(ContentKind kind) {
  switch (kind) {
    case ContentKind::kUnknown: return "";
    case ContentKind::kEmpty: return "an empty file";
    case ContentKind::kZeros: return "a file of zero bytes only";
    case ContentKind::kGitLfsPointer: return "a Git LFS pointer";
    case ContentKind::kGitAnnexPointer: return "a git-annex pointer";
    case ContentKind::kHtml: return "an HTML page";
    case ContentKind::kXml: return "an XML document";
    case ContentKind::kSvg: return "an SVG drawing";
    case ContentKind::kUtf16: return "UTF-16 text";
    case ContentKind::kJson: return "JSON";
    case ContentKind::kJsonLines: return "JSON lines";
    case ContentKind::kGzip: return "gzip-compressed";
    case ContentKind::kBzip2: return "bzip2-compressed";
    case ContentKind::kXz: return "xz-compressed";
    case ContentKind::kZstd: return "zstd-compressed";
    case ContentKind::kSevenZip: return "a 7z archive";
    case ContentKind::kRar: return "a RAR archive";
    case ContentKind::kTar: return "a tar archive";
    case ContentKind::kZip: return "a zip archive";
    case ContentKind::kTorchZip: return "a PyTorch pickle (zip)";
    case ContentKind::kPickle: return "a Python pickle";
    case ContentKind::kNumpy: return "a NumPy array";
    case ContentKind::kParquet: return "a Parquet table";
    case ContentKind::kArrow: return "an Arrow table";
    case ContentKind::kHdf5: return "an HDF5 file";
    case ContentKind::kSafetensors: return "a safetensors file";
    case ContentKind::kGguf: return "a GGUF model";
    case ContentKind::kSqlite: return "an SQLite database";
    case ContentKind::kPdf: return "a PDF document";
    case ContentKind::kAppleDouble: return "an AppleDouble file";
    case ContentKind::kElf: return "a program";
    case ContentKind::kJpeg: return "a JPEG image";
    case ContentKind::kPng: return "a PNG image";
    case ContentKind::kGif: return "a GIF image";
    case ContentKind::kBmp: return "a BMP image";
    case ContentKind::kTiff: return "a TIFF image";
    case ContentKind::kWebp: return "a WebP image";
    case ContentKind::kHeif: return "a HEIF image";
    case ContentKind::kAvif: return "an AVIF image";
    case ContentKind::kJpeg2000: return "a JPEG 2000 image";
    case ContentKind::kJpegXl: return "a JPEG XL image";
    case ContentKind::kIcon: return "an icon";
    case ContentKind::kPsd: return "a Photoshop document";
    case ContentKind::kVideo: return "a video";
  }
  return "";
}

std::string not_what_was_expected(std::string_view beginning, std::string_view expected) {
  const ContentKind kind = content_kind(beginning);
  if (kind == ContentKind::kUnknown) return "";
  return fmt::format("{}, not {}; {}", name_of(kind), expected, remedy(kind));
}

}  // namespace facet
