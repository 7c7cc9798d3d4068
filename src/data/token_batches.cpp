#include "data/token_batches.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace facet {

namespace {

using Costs = std::span<const SampleCost>;
using Samples = std::vector<int64_t>;

const SampleCost& cost(Costs costs, int64_t sample) { return costs[static_cast<size_t>(sample)]; }

int64_t work_of(Costs costs, const Samples& samples) {
  int64_t work = 0;
  for (const int64_t sample : samples) work += cost(costs, sample).work;
  return work;
}

// From much work to little; equal ones by number.
auto by_work(Costs costs) {
  return [costs](int64_t a, int64_t b) {
    const int64_t of_a = cost(costs, a).work, of_b = cost(costs, b).work;
    return of_a != of_b ? of_a > of_b : a < b;
  };
}

// Each rank's samples, by work.
std::vector<Samples> heaviest_first(Costs costs, int64_t ranks) {
  Samples order(costs.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), by_work(costs));
  using Load = std::pair<int64_t, int64_t>;  // work, rank
  std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
  for (int64_t rank = 0; rank < ranks; ++rank) loads.push({0, rank});
  std::vector<Samples> of_ranks(static_cast<size_t>(ranks));
  for (const int64_t sample : order) {
    const auto [work, rank] = loads.top();
    loads.pop();
    of_ranks[static_cast<size_t>(rank)].push_back(sample);
    loads.push({work + cost(costs, sample).work, rank});
  }
  return of_ranks;
}

// What moves from the rank with the most work to the one with the least, and what comes back.
struct Exchange {
  static constexpr int64_t kNothing = -1;
  int64_t given = kNothing, taken = kNothing;
};

// The exchange that brings two ranks nearest to each other, `gap` apart before.
Exchange best_exchange(Costs costs, const Samples& most, const Samples& least, int64_t gap) {
  Exchange best;
  int64_t smallest = gap;
  const auto consider = [&](int64_t given, int64_t taken, int64_t work) {
    const int64_t left = std::abs(gap - 2 * (cost(costs, given).work - work));
    if (left >= smallest) return;
    smallest = left;
    best = {given, taken};
  };
  for (const int64_t given : most) {
    consider(given, Exchange::kNothing, 0);
    const int64_t wanted = cost(costs, given).work - gap / 2;
    const auto after = std::partition_point(
        least.begin(), least.end(), [&](int64_t s) { return cost(costs, s).work > wanted; });
    if (after != least.end()) consider(given, *after, cost(costs, *after).work);
    if (after != least.begin()) consider(given, *(after - 1), cost(costs, *(after - 1)).work);
  }
  return best;
}

void move_sample(Costs costs, int64_t sample, Samples& from, Samples& to) {
  if (sample == Exchange::kNothing) return;
  from.erase(std::find(from.begin(), from.end(), sample));
  to.insert(std::upper_bound(to.begin(), to.end(), sample, by_work(costs)), sample);
}

void even_out(Costs costs, std::vector<Samples>& of_ranks) {
  constexpr int64_t kFine = 500;  // a gap of 1/500 of a rank's work is left as it is
  std::vector<int64_t> work;
  for (const Samples& samples : of_ranks) work.push_back(work_of(costs, samples));
  for (size_t turn = 0; turn < 16 + 4 * of_ranks.size(); ++turn) {
    const auto [low, high] = std::minmax_element(work.begin(), work.end());
    const int64_t gap = *high - *low;
    if (gap <= *high / kFine) return;
    Samples& most = of_ranks[static_cast<size_t>(high - work.begin())];
    Samples& least = of_ranks[static_cast<size_t>(low - work.begin())];
    const auto [given, taken] = best_exchange(costs, most, least, gap);
    if (given == Exchange::kNothing) return;
    move_sample(costs, given, most, least);
    move_sample(costs, taken, least, most);
    *high = work_of(costs, most);
    *low = work_of(costs, least);
  }
}

SampleLists pack(Costs costs, Samples samples, int64_t rows) {
  std::sort(samples.begin(), samples.end(), [&](int64_t a, int64_t b) {
    const int64_t of_a = cost(costs, a).rows, of_b = cost(costs, b).rows;
    return of_a != of_b ? of_a > of_b : a < b;
  });
  SampleLists lists;
  std::vector<int64_t> used;
  for (const int64_t sample : samples) {
    const int64_t length = cost(costs, sample).rows;
    const auto fits = std::find_if(used.begin(), used.end(),
                                   [&](int64_t filled) { return filled + length <= rows; });
    const auto place = static_cast<size_t>(fits - used.begin());
    if (fits == used.end()) {
      used.push_back(0);
      lists.emplace_back();
    }
    used[place] += length;
    lists[place].push_back(sample);
  }
  for (Samples& list : lists) std::sort(list.begin(), list.end());
  std::stable_sort(lists.begin(), lists.end(), [&](const Samples& a, const Samples& b) {
    return work_of(costs, a) > work_of(costs, b);
  });
  return lists;
}

}  // namespace

std::vector<SampleLists> deal_samples(std::span<const SampleCost> samples, int64_t ranks,
                                      int64_t rows) {
  std::vector<Samples> of_ranks = heaviest_first(samples, ranks);
  even_out(samples, of_ranks);
  std::vector<SampleLists> dealt;
  size_t most = 0;
  for (Samples& of_rank : of_ranks) {
    dealt.push_back(pack(samples, std::move(of_rank), rows));
    most = std::max(most, dealt.back().size());
  }
  for (SampleLists& lists : dealt) lists.resize(most);
  return dealt;
}

}  // namespace facet
