#include "train/check_samples.h"

#include <filesystem>

#include "base/log.h"
#include "base/progress.h"
#include "comm/mpi_session.h"
#include "data/record_check.h"
#include "io/file.h"
#include "train/record_walk.h"

namespace facet {

namespace {

void check_to_the_end(RecordCheck& check, Communicator& world) {
  walk_to_the_end(world, check.num_items(), "checked", [&](double seconds) {
    check.go_on(seconds);
    return WalkProgress{check.checked(), std::ssize(check.bad())};
  });
}

// An older list is no longer true, even where this one is empty.
void write_list(const std::string& path, const std::vector<BadItem>& list) {
  std::error_code ignored;
  if (list.empty()) {
    std::filesystem::remove(path, ignored);
    return;
  }
  std::string lines;
  for (const BadItem& bad : list) lines += bad.record.json() + "\n";
  make_directories(std::filesystem::path(path).parent_path().string());
  write_file(path, lines);
}

}  // namespace

void check_all_samples(const Options& options, const DataSetup& data, Communicator& world) {
  const InSection section(Section::kData);
  RecordCheck check(*data.table, *data.builder, options.max_num_image_per_sample, world.rank(),
                    world.size());
  check_to_the_end(check, world);
  const std::vector<BadItem> bad = gathered(check.bad(), world);
  for (const BadItem& each : bad) log_line(text_of(each.record));
  const std::string path =
      options.output_dir.empty() ? "" : options.output_dir + "/bad_records.jsonl";
  collectively(world, [&] {
    if (world.rank() == 0 && !path.empty()) write_list(path, bad);
  });
  const std::string checked =
      check.num_items() == check.num_records()
          ? fmt::format("{} records", check.num_records())
          : fmt::format("{} records and {} samples of several", check.num_records(),
                        check.num_items() - check.num_records());
  if (bad.empty()) return log("all good: {}", checked);
  throw CollectiveError(
      ExitCode::kBadData,
      fmt::format("{} of {} are bad, listed above{}; repair them, or train without them with "
                  "--bad_samples skip",
                  bad.size(), checked, path.empty() ? "" : " and in " + path));
}

}  // namespace facet
