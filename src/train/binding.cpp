#include "train/binding.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/printable.h"
#include "train/cores.h"

namespace facet {

namespace {

constexpr size_t kMostLines = 32;
constexpr size_t kColumns = 6;
using Row = std::array<std::string, kColumns>;

// "0", or "0-3" for ranks that are alike.
Row row_of(const RankBinding& binding, size_t first, size_t last) {
  const auto shown = [](const std::string& text) { return text.empty() ? "-" : printable(text); };
  return {first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last),
          shown(binding.host),
          shown(binding.cores),
          fmt::format("{}", binding.threads),
          shown(binding.numa),
          shown(binding.gpu)};
}

std::vector<Row> rows_of(const std::vector<RankBinding>& ranks) {
  std::vector<Row> rows;
  for (size_t first = 0, next = 0; first < ranks.size(); first = next) {
    while (next < ranks.size() && ranks[next] == ranks[first]) ++next;
    rows.push_back(row_of(ranks[first], first, next - 1));
  }
  return rows;
}

std::string table_of(const std::vector<Row>& rows) {
  std::array<size_t, kColumns> widths{};
  for (const Row& row : rows)
    for (size_t c = 0; c < kColumns; ++c) widths[c] = std::max(widths[c], row[c].size());
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t c = 0; c < kColumns; ++c) line += fmt::format("  {:<{}}", row[c], widths[c]);
    text += "\n" + line.substr(0, line.find_last_not_of(' ') + 1);
  }
  return text;
}

}  // namespace

std::vector<RankBinding> gather_binding(Communicator& world, const std::string& host,
                                        const ComputeDevice& device) {
  const Cores cores = bound_cores();
  const std::vector<std::string> hosts = world.all_gather(host),
                                 lists = world.all_gather(core_list(cores)),
                                 nodes = world.all_gather(numa_nodes_of(cores)),
                                 gpus = world.all_gather(device.facts().gpu);
  const double threads = device.facts().threads;
  const std::span<const double> of_all = world.all_gather(std::span(&threads, 1));
  std::vector<RankBinding> ranks;
  for (size_t r = 0; r < hosts.size(); ++r)
    ranks.push_back({hosts[r], lists[r], nodes[r], static_cast<int64_t>(of_all[r]), gpus[r]});
  return ranks;
}

std::string binding_text(const std::vector<RankBinding>& ranks) {
  std::vector<Row> rows = rows_of(ranks);
  const size_t left_out = rows.size() > kMostLines ? rows.size() - kMostLines : 0;
  rows.resize(rows.size() - left_out);
  rows.insert(rows.begin(), {"rank", "host", "cores", "threads", "NUMA", "GPU"});
  return "binding:" + table_of(rows) +
         (left_out == 0 ? ""
                        : fmt::format("\n  and {} more such lines: run.json has all", left_out));
}

}  // namespace facet
