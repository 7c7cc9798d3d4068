#include "train/disk_plan.h"

#include <fmt/format.h>

#include "base/checked_math.h"
#include "io/file.h"
#include "train/data_setup.h"
#include "train/output_proof.h"
#include "train/run_costs.h"

namespace facet {

DiskPlan plan_disk(const Options& options, int64_t checkpoint_bytes, int64_t export_bytes) {
  constexpr int64_t kColumnBytes = 18;  // a number to its last digit
  constexpr int64_t kColumns = 26, kColumnsOfDataset = 2;
  DiskPlan plan;
  plan.checkpoint = checkpoint_bytes;
  plan.checkpoints = options.keep_last + 1;
  plan.export_ = export_bytes;
  plan.exports = options.num_train_epochs + int64_t{options.keep_best};
  plan.log_of_step =
      kColumnBytes *
      (kColumns + kColumnsOfDataset * static_cast<int64_t>(chosen_datasets(options).size()));
  plan.steps = options.max_steps;
  return plan;
}

int64_t DiskPlan::total() const {
  int64_t bytes = 0;
  add_saturated(bytes, {checkpoint, checkpoints});
  add_saturated(bytes, {export_, exports});
  add_saturated(bytes, {log_of_step, steps});
  return bytes;
}

std::string DiskPlan::text() const {
  return fmt::format(
      "an export: {}\ndisk of the run, at most: {} for {} checkpoints (one of them being written) "
      "+ {} for {} exports + {} of logs a step{} = {}{}",
      bytes_text(export_), bytes_text(checkpoint * checkpoints), checkpoints,
      bytes_text(export_ * exports), exports, bytes_text(log_of_step),
      steps > 0 ? fmt::format(" x {} steps", steps) : "", bytes_text(total()),
      steps > 0 ? "" : " and the logs (--max_steps says for how many steps)");
}

std::string free_disk_text(const Options& options, const DiskPlan& plan) {
  if (options.output_dir.empty()) return "";
  const std::string place = nearest_existing(options.output_dir);
  const int64_t free = free_bytes(place);
  return fmt::format("free at {}: {}, {}", place, bytes_text(free),
                     free >= plan.total()
                         ? "enough"
                         : fmt::format("{} TOO LITTLE: fewer epochs or a lower --keep_last take "
                                       "less",
                                       bytes_text(plan.total() - free)));
}

}  // namespace facet
