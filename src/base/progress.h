// The progress of this process: the section of the run, the collective, the step and the samples it
// is working on, and when it last made progress. Also the time spent in each section.
//
// The main thread writes, with a few plain atomic stores each time. The watchdogs of all processes
// of the node read, even after this process has died, because the slot lives in memory that they
// share (comm/progress_board.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

namespace facet {

enum class Section : uint8_t {
  kStart,     // start of the process and of MPI
  kLoad,      // options, weights, data sets, the checkpoint to continue from
  kData,      // a step's micro-batches
  kCompute,   // forward, backward, the reduction of gradients
  kUpdate,    // the optimizer
  kEvaluate,  // with its data
  kSave,      // checkpoints and exports
  kLog,       // whatever else happens between two steps
};
inline constexpr size_t kNumSections = 8;
const char* name_of(Section section);

enum class Collective : uint8_t {
  kNone,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kSum,  // of host numbers
  kMax,
  kOr,
  kGather,  // of host numbers
};
inline constexpr size_t kNumCollectives = 8;
const char* name_of(Collective collective);

// What other processes may read. All zero is a valid slot that no process writes.
struct ProgressSlot {
  static constexpr size_t kSamples = 32;

  std::atomic<int64_t> section{0};
  std::atomic<int64_t> progress{0};  // ns of the steady clock, which a node's processes share
  // Number of the last collective begun, from 1; all ranks begin the same collectives in the same
  // order.
  std::atomic<int64_t> begun{0};
  std::atomic<int64_t> begun_kind{0};
  std::atomic<int64_t> awaited{0};  // number of the collective it is waiting in; 0: none
  std::atomic<int64_t> awaited_kind{0};
  std::atomic<int64_t> step{0};  // the current one, from 1; 0: before the first
  std::atomic<int64_t> num_samples{0};
  std::array<std::atomic<int64_t>, kSamples> samples{};  // ids of the first ones
  std::atomic<int64_t> leaving{0};  // exits on purpose: its end is not a failure
};

// Makes the process write its progress into *slot, after copying the current progress there;
// nullptr: back to its own slot.
void move_progress_to(ProgressSlot* slot);
const ProgressSlot& my_progress();

// ns of the steady clock
int64_t steady_now();

// Counts if called by the main thread or, while that polls, by another thread.
void note_progress();
void note_step(int64_t step);
void note_samples(std::span<const int64_t> ids);
void note_leaving();

// The main thread is in this section; sections may be nested.
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
// Sets the outermost section.
void begin_section(Section section);

struct BegunCollective {
  Collective kind = Collective::kNone;
  int64_t number = 0;
};
BegunCollective begin_collective(Collective kind);

// The main thread is waiting in a collective: one that begins here, or one begun earlier.
class InCollective {
 public:
  explicit InCollective(Collective kind) : InCollective(begin_collective(kind)) {}
  explicit InCollective(BegunCollective collective);
  ~InCollective();
  InCollective(const InCollective&) = delete;
  InCollective& operator=(const InCollective&) = delete;
};

// The main thread polls whether other threads and ranks are done: the collectives it polls with
// count neither as progress nor as waiting.
class Polling {
 public:
  Polling();
  ~Polling();
  Polling(const Polling&) = delete;
  Polling& operator=(const Polling&) = delete;

  // This rank's own work is done: from now on it only waits for other ranks.
  void done_here();

 private:
  BegunCollective first_;  // the last collective begun before polling, the same on all ranks
};

// Seconds of the main thread since the process started.
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
