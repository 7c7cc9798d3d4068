// A checkpoint as commands read it that are no run.
#pragma once

#include <string>

#include "checkpoint/manifest.h"

namespace facet {

struct StoredCheckpoint {
  std::string directory;
  Manifest manifest;
};

// The path itself if it is a checkpoint, else the newest one of that run, all its bytes verified.
// kMissingInput, kBadData.
StoredCheckpoint open_verified(const std::string& path);

}  // namespace facet
