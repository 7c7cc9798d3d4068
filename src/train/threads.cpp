#include "train/threads.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <thread>

#include "base/log.h"
#include "base/printable.h"
#include "base/start_thread.h"
#include "comm/mpi_session.h"

namespace facet {

namespace {

// 0 for what is no number of threads. OpenMP's list of numbers has one for each level of nested
// regions, of which there is one here.
int64_t number_of_threads(std::string_view text) {
  const size_t first = std::min(text.find_first_not_of(" \t"), text.size());
  const std::string_view word = text.substr(first);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  const std::string_view rest = word.substr(static_cast<size_t>(end - word.data()));
  const size_t next = std::min(rest.find_first_not_of(" \t"), rest.size());
  const bool ends = next == rest.size() || rest[next] == ',';
  return error == std::errc() && number > 0 && ends ? number : 0;
}

// Slurm says how many cores of the host the job has; without its control groups a process sees all.
int64_t usable_cores_of_job() {
  const char* const of_job = std::getenv("SLURM_CPUS_ON_NODE");
  const int64_t cores = of_job != nullptr ? number_of_threads(of_job) : 0;
  return cores > 0 ? std::min(cores, usable_cores()) : usable_cores();
}

std::vector<RankCores> cores_of_ranks(Communicator& world, const std::string& host,
                                      int64_t most_threads) {
  const Cores mine = bound_cores();
  const std::vector<std::string> hosts = world.all_gather(host);
  const std::vector<std::string> lists = world.all_gather(core_list(mine));
  const std::array<double, 3> numbers = {static_cast<double>(usable_cores_of_job()),
                                         is_one_core(mine) ? 1.0 : 0.0,
                                         static_cast<double>(most_threads)};
  const std::span<const double> of_all = world.all_gather(std::span(numbers));
  std::vector<RankCores> ranks;
  for (size_t r = 0; r < hosts.size(); ++r) {
    const std::span<const double> its = of_all.subspan(numbers.size() * r, numbers.size());
    ranks.push_back({hosts[r], parse_core_list(lists[r]), static_cast<int64_t>(its[0]), its[1] != 0,
                     static_cast<int64_t>(its[2])});
  }
  return ranks;
}

// The texts of all ranks, each once, without the empty ones.
std::string each_once(Communicator& world, const std::string& text) {
  std::set<std::string> texts;
  for (const std::string& of_rank : world.all_gather(text))
    if (!of_rank.empty()) texts.insert(of_rank);
  return fmt::format("{}", fmt::join(texts, ", "));
}

// OpenMP ends the process where it can't start a thread, so as many are tried first. Its pool is
// started at once, before other threads take the room.
void start_compute_threads(int threads) {
  {
    std::mutex all_started;
    std::vector<std::jthread> tried;
    const std::lock_guard lock(all_started);
    for (int i = 1; i < threads; ++i)
      tried.push_back(start_thread("computing", [&] {
        return std::jthread([&] { const std::lock_guard wait(all_started); });
      }));
  }
#pragma omp parallel num_threads(threads)
  {}
}

}  // namespace

AllowedThreads AllowedThreads::of_this_process() {
  AllowedThreads allowed;
  for (const char* name : {"SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"}) {
    const char* const value = std::getenv(name);
    if (value == nullptr) continue;
    const int64_t number = number_of_threads(value);
    if (number == 0)
      allowed.ignored +=
          fmt::format("{}{}='{}'", allowed.ignored.empty() ? "" : ", ", name, printable(value));
    if (number == 0 || number >= allowed.most) continue;
    allowed.most = number;
    allowed.by = name;
  }
  return allowed;
}

double share_of_cores(const std::vector<RankCores>& ranks, int rank) {
  const RankCores& mine = ranks[static_cast<size_t>(rank)];
  double share = 0;
  for (const int core : mine.bound) {
    int sharers = 0;
    for (const RankCores& other : ranks)
      sharers += other.host == mine.host &&
                 std::binary_search(other.bound.begin(), other.bound.end(), core);
    share += 1.0 / sharers;
  }
  return share;
}

std::string bound_to_one_core(const std::vector<RankCores>& ranks) {
  std::map<std::string, int64_t> on_host;
  for (const RankCores& rank : ranks) ++on_host[rank.host];
  std::string text;
  int64_t more = -1;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const RankCores& rank = ranks[r];
    const int64_t room = rank.usable / on_host[rank.host];
    const bool idle = room >= 2 * static_cast<int64_t>(rank.bound.size());
    if (!rank.one_core || !idle || rank.most_threads <= 1 || ++more > 0) continue;
    text = fmt::format(
        "rank {} (host {}) is bound to one core ({}) although its host has {} for {} rank{}: give "
        "mpirun --bind-to none or --map-by slot:PE={}, srun --cpus-per-task={}",
        r, rank.host, core_list(rank.bound), rank.usable, on_host[rank.host],
        on_host[rank.host] == 1 ? "" : "s", room, room);
  }
  return more <= 0 ? text : fmt::format("{}; {} more of the ranks likewise", text, more);
}

namespace {

void report_threads(Communicator& world, int threads, const std::string& limits) {
  const int64_t most = world.max(threads), least = -world.max(-threads);
  log("{} rank{}, {} compute thread{} each{}", world.size(), world.size() == 1 ? "" : "s",
      least == most ? fmt::format("{}", most) : fmt::format("{} to {}", least, most),
      most == 1 ? "" : "s", limits.empty() ? "" : fmt::format(", as {} says", limits));
}

void warn_of_crowds(Communicator& world, int threads, double share) {
  const int64_t crowded = world.sum(int64_t{threads > share + 1e-6});
  if (crowded > 0)
    warn(
        "{} of {} ranks have more threads than cores (rank 0: {} for {:.2g} cores); start fewer "
        "ranks or give fewer --threads",
        crowded, world.size(), threads, share);
}

}  // namespace

int choose_threads(Communicator& world, const std::string& host, int64_t requested) {
  const bool is_given = requested > 0;
  AllowedThreads allowed;
  if (is_given) allowed.most = requested;
  if (!is_given) allowed = AllowedThreads::of_this_process();
  const std::vector<RankCores> ranks = cores_of_ranks(world, host, allowed.most);
  const double share = share_of_cores(ranks, world.rank());
  // Thirds add up to 2.9999...
  const auto own = std::max(int64_t{1}, static_cast<int64_t>(std::floor(share + 1e-6)));
  const auto threads = static_cast<int>(is_given ? requested : std::min(own, allowed.most));
  report_threads(world, threads, each_once(world, allowed.most < own ? allowed.by : ""));
  if (const std::string ignored = each_once(world, allowed.ignored); !ignored.empty())
    warn("no number of threads, and ignored: {}; set a whole number from 1 on, or --threads",
         ignored);
  const std::string bound = bound_to_one_core(ranks);  // the same on all ranks
  if (bound.empty()) warn_of_crowds(world, threads, share);
  if (!bound.empty()) warn_line(bound);
  collectively(world, [&] { start_compute_threads(threads); });
  return threads;
}

}  // namespace facet
