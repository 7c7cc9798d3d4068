#include "train/file_for_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/check.h"
#include "io/content_kind.h"
#include "io/file.h"
#include "io/input_file.h"

namespace facet {

namespace {

constexpr std::string_view kExpected =
    "the directory of a model, an adapter, a checkpoint or a run";

bool is_text(std::string_view bytes) {
  return std::ranges::none_of(bytes, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < ' ' && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F;
  });
}

std::string name_of_content(std::string_view beginning) {
  const ContentKind kind = content_kind(beginning);
  if (kind != ContentKind::kUnknown) return name_of(kind);
  return is_text(beginning) ? "a text file" : "a file of an unknown kind";
}

// Of what may be useful as it is; "" for other files.
std::string use_of(ContentKind kind, const std::string& path) {
  switch (kind) {
    case ContentKind::kJson:
    case ContentKind::kJsonLines:
      return "facet data-stats --dataset_names json:" + path + " reads it if it is a data set";
    case ContentKind::kTar:
      return "facet data-stats --dataset_names tar:" + path + " reads it if it is a data set";
    case ContentKind::kHdf5: return "h5dump -n " + path + " lists what is in it";
    default: return "";
  }
}

std::string what_file_is(const std::string& path) {
  const std::string beginning = beginning_of(InputFile(path));
  const std::string what = fmt::format("{}, not {}; ", name_of_content(beginning), kExpected);
  if (lies_in_model(path))
    return what + "give the directory that it lies in, " + directory_of(path);
  const std::string use = use_of(content_kind(beginning), path);
  if (!use.empty()) return what + use;
  const std::string remedy = not_what_was_expected(beginning, kExpected);
  return remedy.empty() ? what + "is it the right file?" : remedy;
}

}  // namespace

bool is_file(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored);
}

bool lies_in_model(const std::string& path) {
  const std::string directory = directory_of(path);
  std::error_code ignored;
  for (const char* name : {"config.json", "adapter_config.json", "manifest.json", "checkpoints"})
    if (std::filesystem::exists(directory + "/" + name, ignored)) return true;
  return false;
}

void refuse_file(const std::string& path) {
  if (is_file(path)) fail(ExitCode::kMissingInput, "{}: {}", path, what_file_is(path));
}

}  // namespace facet
