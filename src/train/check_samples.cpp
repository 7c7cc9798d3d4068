#include "train/check_samples.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <sstream>

#include "base/log.h"
#include "base/progress.h"
#include "base/timer.h"
#include "comm/mpi_session.h"
#include "data/record_check.h"
#include "io/file.h"
#include "train/progress_bar.h"

namespace facet {

namespace {

using Bad = RecordCheck::Bad;

// "1200 of 50000 checked, 3 bad, 0:00:40 left", on rank 0: on a terminal in a bar, elsewhere a line
// every few seconds.
class CheckConsole {
 public:
  explicit CheckConsole(int64_t total) : total_(total) {}

  void show(int64_t checked, int64_t bad) {
    const double seconds_left = since_start_.seconds() * static_cast<double>(total_ - checked) /
                                static_cast<double>(std::max<int64_t>(checked, 1));
    const std::string text = fmt::format("{} of {} checked, {} bad, {} left", checked, total_, bad,
                                         clock_text(seconds_left));
    if (bar_.on_terminal()) return bar_.show(checked, total_, text);
    constexpr double kSecondsBetweenLines = 5;
    if (since_line_.seconds() < kSecondsBetweenLines) return;
    log_line(text);
    since_line_.restart();
  }

 private:
  int64_t total_;
  Timer since_start_, since_line_;
  ProgressBar bar_;
};

void check_to_the_end(RecordCheck& check, Communicator& world) {
  constexpr double kSecondsOfRound = 1;
  CheckConsole console(check.num_items());
  std::array<double, 2> of_all{};  // checked, bad
  while (static_cast<int64_t>(of_all[0]) < check.num_items()) {
    collectively(world, [&] { check.go_on(kSecondsOfRound); });
    of_all = {static_cast<double>(check.checked()), static_cast<double>(check.bad().size())};
    world.all_reduce_sum(of_all);
    if (world.rank() == 0)
      console.show(static_cast<int64_t>(of_all[0]), static_cast<int64_t>(of_all[1]));
  }
}

// As text, to send them: each string after its length.
std::string packed(const std::vector<Bad>& list) {
  std::string text;
  const auto put = [&](const std::string& field) {
    text += fmt::format("{} {}", field.size(), field);
  };
  for (const auto& [item, record] : list) {
    text += fmt::format("{} {} ", item, record.records.size());
    for (const int64_t number : record.records) text += fmt::format("{} ", number);
    for (const std::string& field : {record.dataset, record.file, record.reason}) put(field);
  }
  return text;
}

void unpack(const std::string& text, std::vector<Bad>& list) {
  std::istringstream stream(text);
  const auto get = [&](std::string& field) {
    size_t length = 0;
    stream >> length;
    stream.get();  // the blank
    field.resize(length);
    stream.read(field.data(), static_cast<std::streamsize>(length));
  };
  size_t count = 0;
  for (int64_t item = 0; stream >> item >> count;) {
    Bad& bad = list.emplace_back(Bad{item, {}});
    bad.record.records.resize(count);
    for (int64_t& number : bad.record.records) stream >> number;
    for (std::string* field : {&bad.record.dataset, &bad.record.file, &bad.record.reason})
      get(*field);
  }
}

// Of all ranks, in the order of the data sets.
std::vector<Bad> gathered(const std::vector<Bad>& mine, Communicator& world) {
  std::vector<Bad> all;
  for (const std::string& of_rank : world.all_gather(packed(mine))) unpack(of_rank, all);
  std::sort(all.begin(), all.end(), [](const Bad& a, const Bad& b) { return a.item < b.item; });
  return all;
}

// "data set llava, record 17, data/coco/train2017/000.jpg: neither a JPEG, PNG nor WebP image"
std::string text_of(const BadRecord& bad) {
  const std::string reason =
      bad.reason.starts_with(bad.file) ? bad.reason : fmt::format("{}: {}", bad.file, bad.reason);
  return fmt::format("bad: data set {}, record {}, {}", bad.dataset, fmt::join(bad.records, " "),
                     reason);
}

// An older list is no longer true, even where this one is empty.
void write_list(const std::string& path, const std::vector<Bad>& list) {
  std::error_code ignored;
  if (list.empty()) {
    std::filesystem::remove(path, ignored);
    return;
  }
  std::string lines;
  for (const Bad& bad : list) lines += bad.record.json() + "\n";
  make_directories(std::filesystem::path(path).parent_path().string());
  write_file(path, lines);
}

}  // namespace

void check_all_samples(const Options& options, const DataSetup& data, Communicator& world) {
  const InSection section(Section::kData);
  RecordCheck check(*data.table, *data.builder, options.max_num_image_per_sample, world.rank(),
                    world.size());
  check_to_the_end(check, world);
  const std::vector<Bad> bad = gathered(check.bad(), world);
  for (const Bad& each : bad) log_line(text_of(each.record));
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
