// A checkpoint as commands read it that are no run.
#pragma once

#include <string>

#include "checkpoint/manifest.h"

namespace facet {

struct StoredCheckpoint {
  std::string directory;
  Manifest manifest;
};

// The directory of a checkpoint: the path itself if it is one, else the newest one of that run.
// kMissingInput.
std::string checkpoint_at(const std::string& path);

// checkpoint_at(path), all its bytes verified.
// kMissingInput, kBadData.
StoredCheckpoint open_verified(const std::string& path);

}  // namespace facet
