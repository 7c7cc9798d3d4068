#include "train/stored_checkpoint.h"

#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "base/check.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/state_file.h"

namespace facet {

namespace {

std::string checkpoint_at(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const std::string& directory : {path, path + "/checkpoints"}) {
    if (fs::exists(directory + "/manifest.json", error)) return directory;
    const std::vector<int64_t> steps = published_steps(directory);
    if (!steps.empty()) return fmt::format("{}/step_{:08}", directory, steps.back());
  }
  fail(ExitCode::kMissingInput, "{}: no checkpoint is there{}", path,
       fs::exists(path + "/lang_decoder/config.json", error)
           ? "; it is a whole model, in its lang_decoder and vis_encoder"
           : "");
}

}  // namespace

StoredCheckpoint open_verified(const std::string& path) {
  StoredCheckpoint checkpoint{checkpoint_at(path), {}};
  checkpoint.manifest = read_manifest(checkpoint.directory);
  verify_state_file(state_file_of(checkpoint.directory), checkpoint.manifest, 0, 1);
  return checkpoint;
}

}  // namespace facet
