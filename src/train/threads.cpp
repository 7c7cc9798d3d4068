#include "train/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/start_thread.h"
#include "comm/mpi_session.h"

namespace facet {

namespace {

std::string my_core_mask(const std::string& host) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  sched_getaffinity(0, sizeof cores, &cores);
  std::string mask = host + " ";
  for (int core = 0; core < CPU_SETSIZE; ++core) mask += CPU_ISSET(core, &cores) ? '1' : '0';
  return mask;
}

// Where the mask begins; equal texts before it are equal hosts.
size_t mask_begin(const std::string& mask) { return mask.rfind(' ') + 1; }

bool same_host(const std::string& a, const std::string& b) {
  return a.compare(0, mask_begin(a), b, 0, mask_begin(b)) == 0;
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

double share_of_cores(const std::vector<std::string>& masks, int rank) {
  const std::string& mine = masks[static_cast<size_t>(rank)];
  double share = 0;
  for (size_t core = mask_begin(mine); core < mine.size(); ++core) {
    if (mine[core] != '1') continue;
    int sharers = 0;
    for (const std::string& other : masks) sharers += same_host(mine, other) && other[core] == '1';
    share += 1.0 / sharers;
  }
  return share;
}

int choose_threads(Communicator& world, const std::string& host, int64_t requested) {
  const std::vector<std::string> masks = world.all_gather(my_core_mask(host));
  const double share = share_of_cores(masks, world.rank());
  // Thirds add up to 2.9999...
  const int own = std::max(1, static_cast<int>(std::floor(share + 1e-6)));
  const int threads = requested > 0 ? static_cast<int>(requested) : own;
  const int64_t most = world.max(threads), least = -world.max(-threads);
  const int64_t crowded = world.sum(int64_t{threads > share + 1e-6});
  log("{} rank{}, {} compute thread{} each", world.size(), world.size() == 1 ? "" : "s",
      least == most ? fmt::format("{}", most) : fmt::format("{} to {}", least, most),
      most == 1 ? "" : "s");
  if (crowded > 0)
    warn(
        "{} of {} ranks have more threads than cores (rank 0: {} for {:.2g} cores); start fewer "
        "ranks or give fewer --threads",
        crowded, world.size(), threads, share);
  collectively(world, [&] { start_compute_threads(threads); });
  return threads;
}

}  // namespace facet
