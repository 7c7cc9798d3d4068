#include "comm/hang_verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace facet {

namespace {

bool waits(const RankProgress& p) { return p.awaited.number > 0; }

bool runs(const RankProgress& p) { return p.process == ProcessState::kRuns; }

std::string section_of(const RankProgress& p) {
  if (p.step == 0) return fmt::format("{}, before the first step", name_of(p.section));
  return fmt::format("{} of step {}", name_of(p.section), p.step);
}

std::string name_of(const BegunCollective& c) {
  return fmt::format("collective {} ({})", c.number, name_of(c.kind));
}

// The earliest collective in which others wait and which this rank has not begun; number 0: none.
BegunCollective missing_in(const RankProgress& p, const std::vector<RankProgress>& progress) {
  BegunCollective missing;
  for (const RankProgress& other : progress) {
    const BegunCollective& c = other.awaited;
    if (c.number > p.begun.number && (missing.number == 0 || c.number < missing.number))
      missing = c;
  }
  return missing;
}

std::string collective_of(const RankProgress& p, const std::vector<RankProgress>& progress) {
  if (waits(p)) return "waits in " + name_of(p.awaited);
  if (const BegunCollective missing = missing_in(p, progress); missing.number > 0)
    return "has not reached " + name_of(missing);
  return p.begun.number == 0 ? "no collective so far" : "last begun: " + name_of(p.begun);
}

std::string samples_of(const RankProgress& p) {
  if (p.num_samples == 0) return "no sample ids";
  const bool more = p.num_samples > static_cast<int64_t>(p.samples.size());
  return fmt::format(
      "sample ids {}{}", fmt::join(p.samples, " "),
      more ? fmt::format(" and {} more", p.num_samples - std::ssize(p.samples)) : "");
}

const char* state_text(ProcessState state) {
  switch (state) {
    case ProcessState::kRuns: return "running";
    case ProcessState::kStopped: return "stopped";
    case ProcessState::kGone: return "dead";
  }
  return "?";
}

std::string line_on(const RankProgress& p, const std::vector<RankProgress>& progress) {
  return fmt::format("rank {} (host {}, pid {}, {}): {:.1f} s without progress in {}; {}; {}",
                     p.rank, p.host, p.pid, state_text(p.process), p.idle, section_of(p),
                     collective_of(p, progress), samples_of(p));
}

bool contains(const std::vector<RankProgress>& list, int64_t rank) {
  return std::any_of(list.begin(), list.end(), [&](const auto& p) { return p.rank == rank; });
}

std::string lines_on(const std::vector<RankProgress>& behind,
                     const std::vector<RankProgress>& progress) {
  constexpr size_t kLines = 8;
  std::string text;
  for (size_t i = 0; i < std::min(kLines, behind.size()); ++i)
    text += fmt::format("\n  {}", line_on(behind[i], progress));
  std::vector<int64_t> more;
  for (size_t i = kLines; i < behind.size(); ++i) more.push_back(behind[i].rank);
  return more.empty() ? text : text + fmt::format("\n  and ranks {}", rank_list(more));
}

// "4-7 (host n2), 8-11 (host n3) and others"
std::string ranks_elsewhere(const std::vector<RankProgress>& progress,
                            const std::vector<std::string>& hosts) {
  constexpr size_t kHosts = 8;
  std::map<std::string, std::vector<int64_t>> ranks;
  for (size_t rank = 0; rank < hosts.size(); ++rank)
    if (!contains(progress, static_cast<int64_t>(rank)))
      ranks[hosts[rank]].push_back(static_cast<int64_t>(rank));
  std::vector<std::string> texts;
  for (const auto& [host, list] : ranks)
    if (texts.size() < kHosts) texts.push_back(fmt::format("{} (host {})", rank_list(list), host));
  return fmt::format("{}{}", fmt::join(texts, ", "), ranks.size() > kHosts ? " and others" : "");
}

// "ranks 0, 2-5 wait in collective 17 (sum) of step 3" for each collective; the others by count.
std::string lines_on_the_rest(const std::vector<RankProgress>& progress,
                              const std::vector<RankProgress>& behind) {
  std::map<std::string, std::vector<int64_t>> groups;
  for (const RankProgress& p : progress) {
    if (contains(behind, p.rank)) continue;
    const char* const how = p.leaving ? "at its end" : state_text(p.process);
    groups[waits(p) ? fmt::format("waiting in {}, {}", name_of(p.awaited), section_of(p))
                    : fmt::format("{} in {}", how, section_of(p))]
        .push_back(p.rank);
  }
  std::string text;
  for (const auto& [what, ranks] : groups)
    text +=
        fmt::format("\n  {} {}: {}", ranks.size() == 1 ? "rank" : "ranks", rank_list(ranks), what);
  return text;
}

}  // namespace

std::optional<RankProgress> late_rank(const std::vector<RankProgress>& progress, int64_t ranks,
                                      const HangLimits& limits) {
  const RankProgress* last = nullptr;  // the waiting rank that made progress last
  bool all_wait = true;
  for (const RankProgress& p : progress) {
    if (p.leaving) continue;
    if (waits(p)) {
      if (last == nullptr || p.idle < last->idle) last = &p;
      continue;
    }
    all_wait = false;
    if (limits.of(p.section) > 0 && p.idle >= limits.of(p.section)) return p;
  }
  if (!all_wait || last == nullptr) return std::nullopt;
  const double limit = std::ssize(progress) == ranks ? limits.of(last->section) : limits.collective;
  if (limit == 0 || last->idle < limit) return std::nullopt;
  return *last;
}

bool all_wait(const std::vector<RankProgress>& progress, double seconds) {
  return std::all_of(progress.begin(), progress.end(), [&](const RankProgress& p) {
    return p.leaving || !runs(p) || (waits(p) && p.idle >= seconds);
  });
}

std::optional<RankProgress> stopped_rank(const std::vector<RankProgress>& progress,
                                         double seconds) {
  if (!all_wait(progress, seconds)) return std::nullopt;
  for (const RankProgress& p : progress)
    if (p.process == ProcessState::kStopped && !p.leaving) return p;
  return std::nullopt;
}

std::optional<RankProgress> dead_rank(const std::vector<RankProgress>& progress) {
  for (const RankProgress& p : progress)
    if (p.process == ProcessState::kGone && !p.leaving) return p;
  return std::nullopt;
}

std::vector<RankProgress> ranks_behind(const std::vector<RankProgress>& progress) {
  std::vector<RankProgress> behind;
  const auto take = [&](auto&& condition) {
    for (const RankProgress& p : progress)
      if (!p.leaving && condition(p)) behind.push_back(p);
    return !behind.empty();
  };
  if (take([](const RankProgress& p) { return !runs(p); })) return behind;
  if (take([](const RankProgress& p) { return !waits(p); })) {
    const auto least = [](const RankProgress& a, const RankProgress& b) {
      return a.begun.number < b.begun.number;
    };
    const int64_t fewest = std::min_element(behind.begin(), behind.end(), least)->begun.number;
    std::erase_if(behind, [&](const RankProgress& p) { return p.begun.number > fewest; });
    return behind;
  }
  int64_t earliest = INT64_MAX;
  for (const RankProgress& p : progress)
    if (waits(p)) earliest = std::min(earliest, p.awaited.number);
  take([&](const RankProgress& p) { return p.awaited.number == earliest; });
  return behind;
}

std::string hang_report(const std::vector<RankProgress>& progress,
                        const std::vector<std::string>& hosts, const RankProgress& late,
                        const HangLimits& limits) {
  const std::string elsewhere = ranks_elsewhere(progress, hosts);
  const bool wait_for_others = waits(late) && !elsewhere.empty();
  std::vector<RankProgress> behind;
  if (!wait_for_others) behind = ranks_behind(progress);
  std::string text = fmt::format("hang: no progress for {:.1f} s in {} (limit {:g} s); ", late.idle,
                                 name_of(late.section),
                                 wait_for_others ? limits.collective : limits.of(late.section));
  text += wait_for_others
              ? fmt::format("all {} ranks on {} wait for other hosts:", progress.size(), late.host)
              : fmt::format("{} of {} ranks behind:", behind.size(), hosts.size());
  text += lines_on(behind, progress) + lines_on_the_rest(progress, behind);
  if (!elsewhere.empty()) text += fmt::format("\n  not seen from here: {}", elsewhere);
  return text;
}

std::string lost_host_report(const std::vector<RankProgress>& progress,
                             const std::vector<std::string>& hosts, const LostHost& lost,
                             const std::vector<int64_t>& ranks, double limit) {
  const std::string how =
      lost.closed
          ? fmt::format("is gone: its connection was closed, {:.1f} s after it was last heard",
                        lost.silent)
          : fmt::format("has not been heard for {:.1f} s (limit {:g} s)", lost.silent, limit);
  return fmt::format("hang: host {} ({} {} of {}) {}; seen from {}:{}",
                     hosts[static_cast<size_t>(ranks.front())],
                     ranks.size() == 1 ? "rank" : "ranks", rank_list(ranks), hosts.size(), how,
                     progress.front().host, lines_on_the_rest(progress, {}));
}

std::string death_report(const RankProgress& dead, const std::vector<RankProgress>& progress) {
  return fmt::format("rank {} (host {}, pid {}) died in {}; {}; {}", dead.rank, dead.host, dead.pid,
                     section_of(dead), collective_of(dead, progress), samples_of(dead));
}

std::string rank_list(std::vector<int64_t> ranks) {
  std::sort(ranks.begin(), ranks.end());
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", ranks[i]);
    if (last > i) text += fmt::format("{}{}", last == i + 1 ? ", " : "-", ranks[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace facet
