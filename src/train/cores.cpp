#include "train/cores.h"

#include <fmt/format.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>

namespace facet {

namespace {

namespace fs = std::filesystem;

constexpr int kMostCores = 1 << 16;

// A set of the C library with room for them all.
class CoreSet {
 public:
  CoreSet() : set_(CPU_ALLOC(kMostCores)) { CPU_ZERO_S(bytes(), set_); }
  ~CoreSet() { CPU_FREE(set_); }
  CoreSet(const CoreSet&) = delete;
  CoreSet& operator=(const CoreSet&) = delete;

  static size_t bytes() { return CPU_ALLOC_SIZE(kMostCores); }
  void fill() { std::fill_n(reinterpret_cast<unsigned char*>(set_), bytes(), 0xff); }
  bool take_from_thread() { return sched_getaffinity(0, bytes(), set_) == 0; }
  bool give_to_thread() const { return sched_setaffinity(0, bytes(), set_) == 0; }
  int64_t count() const { return CPU_COUNT_S(bytes(), set_); }
  bool has(int core) const { return CPU_ISSET_S(static_cast<size_t>(core), bytes(), set_); }

 private:
  cpu_set_t* set_;
};

std::string line_of(const fs::path& file) {
  std::string line;
  std::getline(std::ifstream(file) >> std::ws, line);
  return line;
}

bool meet(const Cores& a, const Cores& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](int core) { return std::binary_search(b.begin(), b.end(), core); });
}

// With OMP_PROC_BIND it deals the process's cores out to its threads; this one has the first by
// now.
Cores cores_of_openmp() {
  std::set<int> cores;
  for (int place = 0; place < omp_get_num_places(); ++place) {
    Cores of_place(static_cast<size_t>(omp_get_place_num_procs(place)));
    omp_get_place_proc_ids(place, of_place.data());
    cores.insert(of_place.begin(), of_place.end());
  }
  return {cores.begin(), cores.end()};
}

}  // namespace

std::string core_list(const Cores& cores) {
  std::string text;
  for (size_t first = 0, next = 0; first < cores.size(); first = next) {
    for (next = first + 1; next < cores.size() && cores[next] == cores[next - 1] + 1;) ++next;
    text += fmt::format("{}{}", text.empty() ? "" : ",", cores[first]);
    if (next > first + 1) text += fmt::format("-{}", cores[next - 1]);
  }
  return text;
}

Cores parse_core_list(std::string_view text) {
  Cores cores;
  const char *next = text.data(), *const end = next + text.size();
  while (next < end) {
    int first = 0, last = 0;
    auto read = std::from_chars(next, end, first);
    if (read.ec != std::errc() || first < 0 || first >= kMostCores) break;
    last = first;
    if (read.ptr < end && *read.ptr == '-') read = std::from_chars(read.ptr + 1, end, last);
    if (read.ec != std::errc() || last < first || last >= kMostCores) break;
    for (int core = first; core <= last; ++core) cores.push_back(core);
    if (read.ptr == end || *read.ptr != ',') break;
    next = read.ptr + 1;
  }
  return cores;
}

Cores bound_cores() {
  if (omp_get_num_places() > 0) return cores_of_openmp();
  CoreSet set;
  Cores cores;
  if (!set.take_from_thread()) return cores;
  for (int core = 0; core < kMostCores; ++core)
    if (set.has(core)) cores.push_back(core);
  return cores;
}

// The kernel grants what it can of all cores.
int64_t usable_cores() {
  CoreSet bound, all;
  if (!bound.take_from_thread()) return 0;
  all.fill();
  if (!all.give_to_thread() || !all.take_from_thread()) return bound.count();
  return bound.give_to_thread() ? all.count() : bound.count();
}

bool is_one_core(const Cores& cores, const std::string& system) {
  if (cores.size() <= 1) return !cores.empty();
  const Cores siblings = parse_core_list(
      line_of(fmt::format("{}/cpu/cpu{}/topology/thread_siblings_list", system, cores[0])));
  return std::includes(siblings.begin(), siblings.end(), cores.begin(), cores.end());
}

std::string numa_nodes_of(const Cores& cores, const std::string& system) {
  Cores nodes;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(system + "/node", ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("node")) continue;
    const Cores number = parse_core_list(std::string_view(name).substr(4));
    if (number.size() == 1 && meet(cores, parse_core_list(line_of(entry.path() / "cpulist"))))
      nodes.push_back(number[0]);
  }
  std::sort(nodes.begin(), nodes.end());
  return core_list(nodes);
}

}  // namespace facet
