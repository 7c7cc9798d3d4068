// What a run takes of the disk at --output_dir.
#pragma once

#include <cstdint>
#include <string>

#include "options/options.h"
#include "train/export_plan.h"
#include "train/model_setup.h"

namespace facet {

// Bytes of an export of each kind.
struct ExportBytes {
  int64_t full = 0, adapter = 0;

  int64_t of(ExportKind kind) const { return kind == ExportKind::kFull ? full : adapter; }
};

struct DiskPlan {
  int64_t checkpoint = 0;   // bytes of each
  int64_t checkpoints = 0;  // as many at a time: those kept, and one that is being written
  ExportBytes export_;
  int64_t fulls = 0, adapters = 0;  // as many at a time, OUT/best among them
  int64_t log_of_step = 0;          // about
  int64_t steps = 0;                // 0: they depend on the data
  int64_t total() const;
  std::string text() const;
};

DiskPlan plan_disk(const Options& options, const ExportPlan& exports, int64_t checkpoint_bytes,
                   const ExportBytes& export_bytes);

// From the configuration files alone, by the types that they name where --export_dtype is auto.
ExportBytes planned_export_bytes(const Options& options, const ModelSetup& model);

// One line: what is free at --output_dir or the nearest directory above it that is there, and
// whether that will do. Nothing without --output_dir. Error(kIo) if the system does not say.
std::string free_disk_text(const Options& options, const DiskPlan& plan);

// Error(kIo) if it will not do, where files that the run has written already are counted as free.
void check_disk(const Options& options, const DiskPlan& plan);

}  // namespace facet
