// Where this process stands: in which section of the run, in which collective, in which step, on
// which samples, and when it last got on. And what time the sections took.
//
// The main thread writes, with a few plain atomic stores each time. Watchdogs read: those of the
// other processes of the node too, even when this one no longer runs, because the slot moves into
// memory that they share (comm/progress_board.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

namespace facet {

enum class Section : uint8_t {
  kStart,     // the process and MPI start
  kLoad,      // options, weights, data sets, the checkpoint to continue from
  kData,      // a step's micro-batches
  kCompute,   // forward, backward, the reduction of gradients
  kUpdate,    // the optimizer
  kEvaluate,  // with its data
  kSave,      // checkpoints and exports
  kLog,       // what else stands between two steps
};
inline constexpr size_t kNumSections = 8;
const char* name_of(Section section);

enum class Collective : uint8_t {
  kNone,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kSum,  // of numbers
  kMax,
  kOr,
  kGather,  // of numbers
};
inline constexpr size_t kNumCollectives = 8;
const char* name_of(Collective collective);

// What others may read. All zero is a valid slot that nobody fills.
struct ProgressSlot {
  static constexpr size_t kSamples = 32;

  std::atomic<int64_t> section{0};
  std::atomic<int64_t> progress{0};  // ns of the steady clock, which a node's processes share
  // Of this process, counted from 1; all ranks begin the same collectives in the same order.
  std::atomic<int64_t> begun{0};
  std::atomic<int64_t> begun_kind{0};
  std::atomic<int64_t> awaited{0};  // the collective that it waits in; 0: none
  std::atomic<int64_t> awaited_kind{0};
  std::atomic<int64_t> step{0};  // under way, from 1; 0: before the first
  std::atomic<int64_t> num_samples{0};
  std::array<std::atomic<int64_t>, kSamples> samples{};  // the first ones
  std::atomic<int64_t> leaving{0};                       // ends in order: its end is no accident
};

// From here on the process writes into *slot, which begins with what it wrote so far; nullptr: into
// its own again.
void move_progress_to(ProgressSlot* slot);
const ProgressSlot& my_progress();

// ns of the steady clock
int64_t steady_now();

// Only the main thread's counts, or that of the others while it polls.
void note_progress();
void note_step(int64_t step);
void note_samples(std::span<const int64_t> ids);
void note_leaving();

// The main thread is in a section, inside which others may be nested.
class InSection {
 public:
  explicit InSection(Section section);
  ~InSection();
  InSection(const InSection&) = delete;
  InSection& operator=(const InSection&) = delete;

  void change_to(Section section);

 private:
  Section outer_;
};
// The section that nothing is nested in.
void begin_section(Section section);

struct BegunCollective {
  Collective kind = Collective::kNone;
  int64_t number = 0;
};
BegunCollective begin_collective(Collective kind);

// The main thread waits in a collective: one that begins here, or one begun before.
class InCollective {
 public:
  explicit InCollective(Collective kind) : InCollective(begin_collective(kind)) {}
  explicit InCollective(BegunCollective collective);
  ~InCollective();
  InCollective(const InCollective&) = delete;
  InCollective& operator=(const InCollective&) = delete;
};

// The main thread only asks, again and again, whether other threads and ranks are done: what it
// asks by is neither progress nor waited for.
class Polling {
 public:
  Polling();
  ~Polling();
  Polling(const Polling&) = delete;
  Polling& operator=(const Polling&) = delete;

  // From here on it waits for other ranks alone.
  void done_here();

 private:
  BegunCollective first_;  // the last collective begun before, the same one on all ranks
};

// Seconds of the main thread since the process began.
struct SectionTimes {
  std::array<double, kNumSections> own{};  // outside collectives
  std::array<double, kNumSections> collectives{};

  double of(Section section) const { return own[static_cast<size_t>(section)]; }
  double collectives_of(Section section) const { return collectives[static_cast<size_t>(section)]; }
  double total() const;
};
SectionTimes operator-(const SectionTimes& a, const SectionTimes& b);
SectionTimes section_times();

}  // namespace facet
