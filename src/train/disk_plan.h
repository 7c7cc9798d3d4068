// What a run takes of the disk at --output_dir.
#pragma once

#include <cstdint>
#include <string>

#include "options/options.h"

namespace facet {

struct DiskPlan {
  int64_t checkpoint = 0;   // bytes of each
  int64_t checkpoints = 0;  // as many at a time: those kept, and one that is being written
  int64_t export_ = 0;      // bytes of each
  int64_t exports = 0;      // epochs, and the best
  int64_t log_of_step = 0;  // about
  int64_t steps = 0;        // 0: they depend on the data
  int64_t total() const;
  std::string text() const;
};

DiskPlan plan_disk(const Options& options, int64_t checkpoint_bytes, int64_t export_bytes);

// One line: what is free at --output_dir or the nearest directory above it that is there, and
// whether that will do. Nothing without --output_dir. Error(kIo) if the system does not say.
std::string free_disk_text(const Options& options, const DiskPlan& plan);

}  // namespace facet
