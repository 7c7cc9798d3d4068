#include "train/stored_checkpoint.h"

#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "base/check.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/state_file.h"
#include "data/tokenizer.h"
#include "io/llava_directory.h"
#include "io/tensor_directory.h"
#include "train/file_for_directory.h"

namespace facet {

namespace {

// What of a model is in a directory that has no config.json; "" if nothing.
std::string parts_of_model(const std::string& path) {
  const std::string instead = what_lies_there_instead(path);
  if (instead.empty() && !TensorDirectory::is_there(path) && tokenizer_file(path).empty())
    return "";
  return "; it has files of a model, but config.json is missing" + instead;
}

}  // namespace

std::string checkpoint_at(const std::string& path, std::string_view looked_for) {
  namespace fs = std::filesystem;
  std::error_code error;
  refuse_file(path);
  CHECK(fs::exists(path, error), ExitCode::kMissingInput, "{}: no such directory", path);
  for (const std::string& directory : {path, path + "/checkpoints"}) {
    if (fs::exists(directory + "/manifest.json", error)) return directory;
    const std::vector<int64_t> steps = published_steps(directory);
    if (!steps.empty()) return fmt::format("{}/step_{:08}", directory, steps.back());
  }
  std::string instead = parts_of_model(path);
  if (fs::exists(path + "/lang_decoder/config.json", error))
    instead = "; it is a whole model, in its lang_decoder and vis_encoder";
  else if (is_llava_directory(path))
    instead = "; it is a whole LLaVA model";
  else if (fs::exists(path + "/config.json", error))
    instead = "; it is a model, not what a run keeps of one";
  if (instead.empty()) instead = fmt::format("; looked for in it: {}", looked_for);
  fail(ExitCode::kMissingInput, "{}: no checkpoint is there{}", path, instead);
}

StoredCheckpoint open_verified(const std::string& path, std::string_view looked_for) {
  StoredCheckpoint checkpoint{checkpoint_at(path, looked_for), {}};
  checkpoint.manifest = read_manifest(checkpoint.directory);
  verify_state_file(state_file_of(checkpoint.directory), checkpoint.manifest, 0, 1);
  return checkpoint;
}

}  // namespace facet
