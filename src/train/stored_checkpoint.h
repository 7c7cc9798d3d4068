// A checkpoint as commands read it that are no run.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint/manifest.h"

namespace facet {

struct StoredCheckpoint {
  std::string directory;
  Manifest manifest;
};

// What lies in the directory of a checkpoint or of a run.
inline constexpr std::string_view kFilesOfCheckpoints =
    "manifest.json or checkpoints/step_N (a checkpoint, a run)";

// The directory of a checkpoint: the path itself if it is one, else the newest one of that run.
// kMissingInput, which says what was looked for where nothing known is there, and what a file is.
std::string checkpoint_at(const std::string& path,
                          std::string_view looked_for = kFilesOfCheckpoints);

// checkpoint_at(...), all its bytes verified.
// kMissingInput, kBadData.
StoredCheckpoint open_verified(const std::string& path,
                               std::string_view looked_for = kFilesOfCheckpoints);

}  // namespace facet
