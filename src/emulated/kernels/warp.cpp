#include "emulated/kernels/warp.h"

#include <algorithm>

#include "emulated/device/violation.h"
#include "emulated/kernels/executor.h"

namespace facet::emulated {
namespace {

Executor& executor() { return Executor::instance(); }

template <typename Body>
void for_lanes(unsigned mask, const Body& body) {
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1) body(lane);
}

struct BallotArguments {
  bool vote;
  unsigned result = 0;
};

struct MatchArguments {
  uint64_t value;
  unsigned result = 0;
};

struct ShuffleArguments {
  Shuffle kind;
  uint64_t value;
  int argument, width;
  uint64_t result = 0;
};

// The lane that `lane` reads from; a lane outside its segment of `width` reads itself.
unsigned source_lane(const ShuffleArguments& a, unsigned lane) {
  const int me = static_cast<int>(lane);
  const int first = me / a.width * a.width, last = first + a.width - 1;
  int source = me;
  switch (a.kind) {
    case Shuffle::kIndex: return static_cast<unsigned>(first + (a.argument & (a.width - 1)));
    case Shuffle::kUp: source = me - a.argument; break;
    case Shuffle::kDown: source = me + a.argument; break;
    // An xor shuffle can reach lower segments, but not higher ones.
    case Shuffle::kXor: source = me ^ a.argument; return source > last ? lane : source;
  }
  return static_cast<unsigned>(source < first || source > last ? me : source);
}

void complete_shuffle(const WarpMeeting& meeting) {
  for_lanes(meeting.mask, [&](unsigned lane) {
    auto& a = meeting.of<ShuffleArguments>(lane);
    const unsigned source = source_lane(a, lane);
    if (source >= kLanes || !(meeting.mask >> source & 1))
      violation(meeting.where,
                "lane {} shuffles from lane {}, which the mask {:#010x} does not name", lane,
                source, meeting.mask);
    a.result = meeting.of<ShuffleArguments>(source).value;
  });
}

template <typename T>
struct ReductionArguments {
  Reduction kind;
  T value;
};

template <typename T>
T combine(Reduction kind, T a, T b) {
  const auto ua = static_cast<unsigned>(a), ub = static_cast<unsigned>(b);  // sums wrap
  switch (kind) {
    case Reduction::kAdd: return static_cast<T>(ua + ub);
    case Reduction::kMin: return std::min(a, b);
    case Reduction::kMax: return std::max(a, b);
    case Reduction::kAnd: return static_cast<T>(ua & ub);
    case Reduction::kOr: return static_cast<T>(ua | ub);
    case Reduction::kXor: return static_cast<T>(ua ^ ub);
  }
  return a;
}

template <typename T>
void complete_reduction(const WarpMeeting& meeting) {
  const auto first = static_cast<unsigned>(__builtin_ctz(meeting.mask));
  auto [kind, result] = meeting.of<ReductionArguments<T>>(first);
  for_lanes(meeting.mask & ~(1u << first), [&, kind = kind](unsigned lane) {
    result = combine(kind, result, meeting.of<ReductionArguments<T>>(lane).value);
  });
  for_lanes(meeting.mask,
            [&](unsigned lane) { meeting.of<ReductionArguments<T>>(lane).value = result; });
}

template <typename T>
T reduce_values(Reduction kind, unsigned mask, T value, Site where) {
  ReductionArguments<T> arguments{kind, value};
  executor().meet_warp("a warp reduction", mask, &arguments, complete_reduction<T>, where);
  return arguments.value;
}

}  // namespace

void plain_barrier(Site where) { executor().block_barrier(Vote::kNone, 0, where); }
int count_barrier(int vote, Site where) {
  return executor().block_barrier(Vote::kCount, vote, where);
}
int and_barrier(int vote, Site where) { return executor().block_barrier(Vote::kAnd, vote, where); }
int or_barrier(int vote, Site where) { return executor().block_barrier(Vote::kOr, vote, where); }

unsigned block_in_cluster() { return executor().current().block; }
void sync_cluster(Site where) { executor().cluster_barrier(where); }

void sync_warp(unsigned mask, Site where) {
  int nothing = 0;
  executor().meet_warp(
      "__syncwarp", mask, &nothing,
      [](const WarpMeeting& meeting) { executor().order_lanes(meeting.mask); }, where);
}

unsigned ballot(unsigned mask, int vote, Site where) {
  BallotArguments arguments{vote != 0};
  executor().meet_warp(
      "a warp vote", mask, &arguments,
      [](const WarpMeeting& meeting) {
        unsigned result = 0;
        for_lanes(meeting.mask, [&](unsigned lane) {
          if (meeting.of<BallotArguments>(lane).vote) result |= 1u << lane;
        });
        for_lanes(meeting.mask,
                  [&](unsigned lane) { meeting.of<BallotArguments>(lane).result = result; });
      },
      where);
  return arguments.result;
}

unsigned match_any(unsigned mask, uint64_t value, Site where) {
  MatchArguments arguments{value};
  executor().meet_warp(
      "__match_any_sync", mask, &arguments,
      [](const WarpMeeting& meeting) {
        for_lanes(meeting.mask, [&](unsigned lane) {
          auto& mine = meeting.of<MatchArguments>(lane);
          for_lanes(meeting.mask, [&](unsigned other) {
            if (meeting.of<MatchArguments>(other).value == mine.value) mine.result |= 1u << other;
          });
        });
      },
      where);
  return arguments.result;
}

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, Site where) {
  if (width < 1 || width > static_cast<int>(kLanes) || (width & (width - 1)) != 0)
    violation(where, "a shuffle of width {}", width);
  ShuffleArguments arguments{kind, value, argument, width};
  executor().meet_warp("a shuffle", mask, &arguments, complete_shuffle, where);
  return arguments.result;
}

unsigned reduce(Reduction kind, unsigned mask, unsigned value, Site where) {
  return reduce_values(kind, mask, value, where);
}
int reduce(Reduction kind, unsigned mask, int value, Site where) {
  return reduce_values(kind, mask, value, where);
}

}  // namespace facet::emulated
