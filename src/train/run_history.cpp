#include "train/run_history.h"

#include <unistd.h>

#include "base/log.h"
#include "train/run_start.h"

namespace facet {

namespace {

OptionTexts recorded_options(const std::string& resolved) {
  OptionTexts options = option_texts(resolved);
  for (auto& [name, value] : options) value = as_recorded(value);
  return options;
}

OptionTexts options_of(const Run& run) {
  return recorded_options(resolved_options(Command::kTrain, run.options));
}

// Where run.json does not know what the options were, the checkpoint does.
void tell_changes(const Run& run, const RunRecord& record, const FoundCheckpoint& found) {
  const bool known = !record.last_options().empty();
  const std::vector<OptionChange> changes =
      option_changes(known ? record.last_options() : recorded_options(found.manifest.state.options),
                     options_of(run));
  const std::string before =
      known ? fmt::format("start {}", record.start() - 1) : fmt::format("{}", found.directory);
  log("start {} of this run; {}", record.start(),
      changes.empty() ? fmt::format("options as in {}", before)
                      : fmt::format("options that changed since {}:", before));
  for (const OptionChange& change : changes) log_line(change.text());
}

// A path in the output directory without it.
std::string within_output(const Run& run, const std::string& path) {
  const std::string directory = run.options.output_dir + "/";
  return path.starts_with(directory) ? path.substr(directory.size()) : path;
}

}  // namespace

std::unique_ptr<RunRecord> open_record(const Run& run) {
  using Earlier = RunRecord::Earlier;
  const FoundCheckpoint* const found = run.checkpoints->found();
  const std::string& out = run.options.output_dir;
  std::unique_ptr<RunRecord> record;
  collectively(run.world, [&] {
    if (run.world.rank() != 0) return;
    record = std::make_unique<RunRecord>(
        out, found != nullptr ? Earlier::kGoesOn : Earlier::kIsKeptAside);
    if (found != nullptr) return tell_changes(run, *record, *found);
    log_line("resolved options:");
    log_lines(resolved_options(Command::kTrain, run.options));
  });
  const int64_t start = run.world.broadcast(record ? record->start() : 0, 0);
  return record ? std::move(record) : std::make_unique<RunRecord>(out, start);
}

void begin_record(const Run& run) {
  if (run.world.rank() != 0) return;
  RunStart start;
  start.slurm = SlurmJob::of_this_process();
  start.program = program_version();
  start.binding = run.binding;
  if (const FoundCheckpoint* const found = run.checkpoints->found())
    start.resumed_from = {found->manifest.state.step, within_output(run, found->directory)};
  start.options = options_of(run);
  start.options_before = run.record->last_options();
  start.environment = recorded_environment(environ);
  run.record->begin([&](JsonWriter& writer) { write_members(writer, start); });
}

void end_record(const Run& run, ExitCode code, KnownTo known) {
  if (known == KnownTo::kAllRanks && run.world.rank() != 0) return;
  run.record->end({code, run.status.step(), within_output(run, run.status.checkpoint())});
}

}  // namespace facet
