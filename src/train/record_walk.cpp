#include "train/record_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "base/log.h"
#include "base/timer.h"
#include "comm/mpi_session.h"
#include "train/progress_bar.h"

namespace facet {

namespace {

// On a terminal a bar, elsewhere a line every few seconds.
class WalkConsole {
 public:
  WalkConsole(int64_t total, std::string done_word)
      : total_(total), done_word_(std::move(done_word)) {}

  void show(const WalkProgress& progress) {
    const double seconds_left = since_start_.seconds() *
                                static_cast<double>(total_ - progress.done) /
                                static_cast<double>(std::max<int64_t>(progress.done, 1));
    const std::string text = fmt::format("{} of {} {}, {} bad, {} left", progress.done, total_,
                                         done_word_, progress.bad, clock_text(seconds_left));
    if (bar_.on_terminal()) return bar_.show(progress.done, total_, text);
    constexpr double kSecondsBetweenLines = 5;
    if (since_line_.seconds() < kSecondsBetweenLines) return;
    log_line(text);
    since_line_.restart();
  }

 private:
  int64_t total_;
  std::string done_word_;
  Timer since_start_, since_line_;
  ProgressBar bar_;
};

// As text, to send them: each string after its length.
std::string packed(const std::vector<BadItem>& list) {
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

void unpack(const std::string& text, std::vector<BadItem>& list) {
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
    BadItem& bad = list.emplace_back(BadItem{item, {}});
    bad.record.records.resize(count);
    for (int64_t& number : bad.record.records) stream >> number;
    for (std::string* field : {&bad.record.dataset, &bad.record.file, &bad.record.reason})
      get(*field);
  }
}

}  // namespace

void walk_to_the_end(Communicator& world, int64_t items, const std::string& done_word,
                     const std::function<WalkProgress(double seconds)>& go_on) {
  constexpr double kSecondsOfRound = 1;
  WalkConsole console(items, done_word);
  WalkProgress of_all;
  while (of_all.done < items) {
    WalkProgress mine;
    collectively(world, [&] { mine = go_on(kSecondsOfRound); });
    std::array<double, 2> sums = {static_cast<double>(mine.done), static_cast<double>(mine.bad)};
    world.all_reduce_sum(sums);
    of_all = {static_cast<int64_t>(sums[0]), static_cast<int64_t>(sums[1])};
    if (world.rank() == 0) console.show(of_all);
  }
}

std::vector<BadItem> gathered(const std::vector<BadItem>& mine, Communicator& world) {
  std::vector<BadItem> all;
  for (const std::string& of_rank : world.all_gather(packed(mine))) unpack(of_rank, all);
  std::sort(all.begin(), all.end(),
            [](const BadItem& a, const BadItem& b) { return a.item < b.item; });
  return all;
}

std::string text_of(const BadRecord& bad) {
  const std::string reason =
      bad.reason.starts_with(bad.file) ? bad.reason : fmt::format("{}: {}", bad.file, bad.reason);
  return fmt::format("bad: data set {}, record {}, {}", bad.dataset, fmt::join(bad.records, " "),
                     reason);
}

}  // namespace facet
