#include "train/disk_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <span>

#include "base/checked_math.h"
#include "checkpoint/checkpoint_directory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/left_overs.h"
#include "train/data_setup.h"
#include "train/names_of_run.h"
#include "train/output_proof.h"
#include "train/run_costs.h"

namespace facet {

namespace {

// As config.json of a part names it.
DType type_in_config(const std::string& directory) {
  const JsonDocument document = JsonDocument::read_config(directory + "/config.json");
  const std::string type =
      document.root().get_string("torch_dtype", document.root().get_string("dtype", "float32"));
  if (type == "bfloat16") return DType::kBF16;
  return type == "float16" ? DType::kF16 : DType::kF32;
}

// Exports of epochs that lie there at a time: those kept, and one that is being written.
void count_exports(const Options& options, const ExportPlan& exports, DiskPlan& plan) {
  if (!exports.each) return;
  const int64_t epochs = exported_epochs(options, options.num_train_epochs);
  const int64_t keep = options.keep_exports;
  const int64_t older = keep > 0 ? std::min(epochs - 1, keep) : epochs - 1;
  const auto count = [&](ExportKind kind) -> int64_t& {
    return kind == ExportKind::kFull ? plan.fulls : plan.adapters;
  };
  count(*exports.each) += older + int64_t{options.keep_best};
  count(*exports.last) += 1;
}

namespace fs = std::filesystem;

// Of a file, or of all files in a directory.
int64_t bytes_of(const fs::directory_entry& entry) {
  std::error_code error;
  if (entry.is_regular_file(error)) return static_cast<int64_t>(entry.file_size(error));
  int64_t bytes = 0;
  for (fs::recursive_directory_iterator at(entry.path(), error), end; !error && at != end;
       at.increment(error))
    if (at->is_regular_file(error)) bytes += static_cast<int64_t>(at->file_size(error));
  return bytes;
}

// Of what has one of these names there, or was left under one of them and will be removed.
int64_t bytes_of_own(const std::string& directory, std::span<const std::string_view> names) {
  int64_t bytes = 0;
  std::error_code error;
  if (fs::is_symlink(directory, error)) return bytes;  // perhaps to another disk
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
    if (is_own(entry, names)) bytes += bytes_of(entry);
  for (const LeftOver& left : left_overs(directory, names))
    bytes += bytes_of(fs::directory_entry(left.path));
  return bytes;
}

// What a run can fill: files that it has written already are overwritten or removed, or count among
// those that it writes. Nobody else's are.
struct DiskRoom {
  std::string place;  // what exists of the path of --output_dir
  int64_t free = 0, written = 0;

  int64_t total() const { return free + written; }
};

DiskRoom room_for(const Options& options) {
  DiskRoom room{nearest_existing(options.output_dir)};
  room.free = free_bytes(room.place);
  room.written = bytes_of_own(options.output_dir, kNamesOfRun) +
                 bytes_of_own(options.output_dir + "/checkpoints", kNamesOfCheckpoints);
  return room;
}

}  // namespace

DiskPlan plan_disk(const Options& options, const ExportPlan& exports, int64_t checkpoint_bytes,
                   const ExportBytes& export_bytes) {
  constexpr int64_t kColumnBytes = 18;  // a number to its last digit
  constexpr int64_t kColumns = 26, kColumnsOfDataset = 2;
  DiskPlan plan;
  plan.checkpoint = checkpoint_bytes;
  plan.checkpoints = options.keep_last + 1;
  plan.export_ = export_bytes;
  count_exports(options, exports, plan);
  plan.log_of_step =
      kColumnBytes *
      (kColumns + kColumnsOfDataset * static_cast<int64_t>(chosen_datasets(options).size()));
  plan.steps = options.max_steps;
  return plan;
}

ExportBytes planned_export_bytes(const Options& options, const ModelSetup& model) {
  const DType lm = type_in_config(options.lm_model_name_or_path);
  const DType vision = type_in_config(options.vision_model_name_or_path);
  const auto type_in_file = [&](const Param& param) {
    if (param.role == ParamRole::kLora || param.name.starts_with("projection.")) return DType::kF32;
    return param.name.starts_with("vis_encoder.") ? vision : lm;
  };
  const auto bytes = [&](ExportKind kind) {
    return estimated_export_bytes(model.table, model.config, export_sources(options, model),
                                  {.kind = kind, .type = export_type(options)}, type_in_file);
  };
  return {bytes(ExportKind::kFull), bytes(ExportKind::kAdapter)};
}

int64_t DiskPlan::total() const {
  int64_t bytes = 0;
  add_saturated(bytes, {checkpoint, checkpoints});
  add_saturated(bytes, {export_.full, fulls});
  add_saturated(bytes, {export_.adapter, adapters});
  add_saturated(bytes, {log_of_step, steps});
  return bytes;
}

std::string DiskPlan::text() const {
  const auto of_exports = [](int64_t bytes, int64_t count, const char* one, const char* several) {
    return count == 0 ? ""
                      : fmt::format(" + {} for {} {}", bytes_text(bytes * count), count,
                                    count == 1 ? one : several);
  };
  return fmt::format(
      "an export: {} of the whole model, {} of an adapter\ndisk of the run, at most: {} for {} "
      "checkpoints (one of them being written){}{} + {} of logs a step{} = {}{}",
      bytes_text(export_.full), bytes_text(export_.adapter), bytes_text(checkpoint * checkpoints),
      checkpoints, of_exports(export_.full, fulls, "whole model", "whole models"),
      of_exports(export_.adapter, adapters, "adapter", "adapters"), bytes_text(log_of_step),
      steps > 0 ? fmt::format(" x {} steps", steps) : "", bytes_text(total()),
      steps > 0 ? "" : " and the logs (--max_steps says for how many steps)");
}

std::string free_disk_text(const Options& options, const DiskPlan& plan) {
  if (options.output_dir.empty()) return "";
  const DiskRoom room = room_for(options);
  const std::string written =
      room.written > 0
          ? fmt::format(" and {} of the run's files that are there", bytes_text(room.written))
          : "";
  return fmt::format("free at {}: {}{}, {}", room.place, bytes_text(room.free), written,
                     room.total() >= plan.total()
                         ? "enough"
                         : fmt::format("{} TOO LITTLE", bytes_text(plan.total() - room.total())));
}

void check_disk(const Options& options, const DiskPlan& plan) {
  if (options.output_dir.empty()) return;
  const DiskRoom room = room_for(options);
  CHECK(plan.total() <= room.total(), ExitCode::kIo,
        "{}: the run writes up to {}, there is room for {}; --keep_exports, --export_every, a "
        "lower --keep_last and --export_dtype bf16 take less",
        room.place, bytes_text(plan.total()), bytes_text(room.total()));
}

}  // namespace facet
