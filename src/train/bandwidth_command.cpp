// facet bandwidth: all-reduces of all ranks, of each host's own, and of pairs of hosts.
#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "base/log.h"
#include "base/progress.h"
#include "comm/split.h"
#include "job/fault_injection.h"
#include "train/bandwidth.h"
#include "train/commands.h"
#include "train/compute_device.h"
#include "train/host_pairs.h"
#include "train/timed_all_reduce.h"

namespace facet {

namespace {

// Of the rounds in which hosts meet: a host that is not slow itself then has a partner that isn't
// either, unless many are.
constexpr int kRounds = 3;

class Measurement {
 public:
  Measurement(MpiSession& session, const Options& options, ComputeDevice& device,
              const FaultInjection& faults);
  // Collective; complete on rank 0.
  BandwidthReport run();

 private:
  void measure_hosts();
  void measure_pairs();
  std::vector<AllReduceRate> measure(int part, const std::vector<int64_t>& sizes);
  AllReduceRate of_host(int host, const std::vector<AllReduceRate>& mine);
  int hosts() const { return static_cast<int>(report_.hosts.size()); }

  Communicator& world_;
  const Options& options_;
  ComputeDevice& device_;
  const FaultInjection& faults_;
  int host_ = 0;                 // of this rank
  std::vector<int> first_rank_;  // of each host
  std::vector<int64_t> sizes_;   // bytes
  int64_t largest_ = 0;
  BandwidthReport report_;
};

Measurement::Measurement(MpiSession& session, const Options& options, ComputeDevice& device,
                         const FaultInjection& faults)
    : world_(session.world()), options_(options), device_(device), faults_(faults) {
  const std::vector<std::string> names = world_.all_gather(session.host());
  for (int rank = 0; rank < world_.size(); ++rank) {
    const std::string& name = names[static_cast<size_t>(rank)];
    const auto known = std::find_if(report_.hosts.begin(), report_.hosts.end(),
                                    [&](const HostRates& host) { return host.host == name; });
    if (rank == world_.rank()) host_ = static_cast<int>(known - report_.hosts.begin());
    if (known != report_.hosts.end()) continue;
    report_.hosts.push_back({name, {}, {}, ""});
    first_rank_.push_back(rank);
  }
  for (const double mib : options_.all_reduce_mib)
    sizes_.push_back(static_cast<int64_t>(mib * (1 << 20)));
  largest_ = *std::max_element(sizes_.begin(), sizes_.end());
}

BandwidthReport Measurement::run() {
  report_.all = measure(0, sizes_);
  if (hosts() == 1) return report_;  // it has just been measured
  measure_hosts();
  measure_pairs();
  return report_;
}

// Each by itself, all at once.
void Measurement::measure_hosts() {
  const std::vector<AllReduceRate> mine = measure(host_, {largest_});
  for (int host = 0; host < hosts(); ++host)
    report_.hosts[static_cast<size_t>(host)].alone = of_host(host, mine);
}

// All pairs of a round at once.
void Measurement::measure_pairs() {
  for (int round = 0; round < std::min(kRounds, rounds_of_pairs(hosts())); ++round) {
    const int partner = partner_of(host_, round, hosts());
    const std::vector<AllReduceRate> mine =
        measure(partner < 0 ? -1 : std::min(host_, partner), {largest_});
    for (int host = 0; host < hosts(); ++host) {
      HostRates& rates = report_.hosts[static_cast<size_t>(host)];
      const AllReduceRate rate = of_host(host, mine);
      if (rate.ranks == 0) continue;
      if (rates.with_other.ranks > 0 && rates.with_other.busbw() >= rate.busbw()) continue;
      rates.with_other = rate;
      rates.other = report_.hosts[static_cast<size_t>(partner_of(host, round, hosts()))].host;
    }
  }
}

// Rates of the ranks that give the same part; empty for one that is alone in it or in none.
std::vector<AllReduceRate> Measurement::measure(int part, const std::vector<int64_t>& sizes) {
  const std::unique_ptr<Communicator> group = split(world_, part);
  const bool alone = group == nullptr || group->size() == 1;
  std::optional<TimedAllReduce> timed;
  std::vector<AllReduceRate> rates;
  if (!alone) report_.by = connect(options_, *group, device_);
  collectively(world_, [&] {
    if (!alone) timed.emplace(*group, device_.plain(), largest_, faults_, world_.rank());
  });
  if (alone) return rates;
  for (const int64_t bytes : sizes)
    rates.push_back({group->size(), TimedAllReduce::bytes(bytes, group->size()),
                     timed->seconds(bytes, options_.repeats)});
  return rates;
}

// What the first rank of that host has measured. Collective.
AllReduceRate Measurement::of_host(int host, const std::vector<AllReduceRate>& mine) {
  const AllReduceRate rate = mine.empty() ? AllReduceRate{} : mine.front();
  const std::array<double, 3> numbers = {static_cast<double>(rate.ranks),
                                         static_cast<double>(rate.bytes), rate.seconds};
  const std::span<const double> of_all = world_.all_gather(numbers);
  const size_t at = static_cast<size_t>(first_rank_[static_cast<size_t>(host)]) * numbers.size();
  return {static_cast<int>(of_all[at]), static_cast<int64_t>(of_all[at + 1]), of_all[at + 2]};
}

}  // namespace

void bandwidth_command(MpiSession& session, const Options& options) {
  Communicator& world = session.world();
  FaultInjection faults;
  collectively(world, [&] { faults = FaultInjection::of_run(""); });
  ComputeDevice device = open_compute_device(options, world, session.host());
  if (world.size() == 1) return log("one rank: there is nothing to measure");
  const InSection section(Section::kCompute);
  const BandwidthReport report = Measurement(session, options, device, faults).run();
  log_lines(bandwidth_text(report));
}

}  // namespace facet
