#include "base/progress.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>

namespace facet {

namespace {

static_assert(std::atomic<int64_t>::is_always_lock_free, "slots are shared between processes");

ProgressSlot own_slot;
ProgressSlot* mine = &own_slot;
const std::thread::id main_thread = std::this_thread::get_id();
std::atomic<bool> polling{false};  // whether the main thread polls

constexpr std::array<const char*, kNumSections> kSectionNames = {
    "start", "load", "data", "compute", "update", "evaluate", "save", "log"};
constexpr std::array<const char*, kNumCollectives> kCollectiveNames = {
    "none", "reduce_scatter", "all_gather", "broadcast", "sum", "max", "or", "gather"};

// Where the main thread has spent its time.
struct Account {
  int64_t since = steady_now();
  SectionTimes times;

  void settle() {
    const int64_t now = steady_now();
    const bool waits = mine->awaited.load(std::memory_order_relaxed) != 0;
    const auto section = static_cast<size_t>(mine->section.load(std::memory_order_relaxed));
    (waits ? times.collectives : times.own)[section] += 1e-9 * static_cast<double>(now - since);
    since = now;
  }
};
Account account;

void enter(Section section) {
  account.settle();
  note_progress();  // first, so that whoever sees the new section sees a time within it
  mine->section.store(static_cast<int64_t>(section), std::memory_order_release);
}

void await(BegunCollective collective) {
  mine->awaited_kind.store(static_cast<int64_t>(collective.kind), std::memory_order_relaxed);
  mine->awaited.store(collective.number, std::memory_order_release);
}

}  // namespace

const char* name_of(Section section) { return kSectionNames[static_cast<size_t>(section)]; }
const char* name_of(Collective collective) {
  return kCollectiveNames[static_cast<size_t>(collective)];
}

int64_t steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void move_progress_to(ProgressSlot* slot) {
  const auto copy = [](std::atomic<int64_t>& to, const std::atomic<int64_t>& from) {
    to.store(from.load(std::memory_order_relaxed), std::memory_order_relaxed);
  };
  if (slot == nullptr) slot = &own_slot;
  ProgressSlot* const old = mine;
  copy(slot->progress, old->progress);
  copy(slot->section, old->section);
  copy(slot->begun, old->begun);
  copy(slot->begun_kind, old->begun_kind);
  copy(slot->step, old->step);
  mine = slot;
}

const ProgressSlot& my_progress() { return *mine; }

void note_progress() {
  const bool of_main_thread = std::this_thread::get_id() == main_thread;
  if (of_main_thread == polling.load(std::memory_order_relaxed)) return;
  mine->progress.store(steady_now(), std::memory_order_release);
}

void note_step(int64_t step) { mine->step.store(step, std::memory_order_relaxed); }

void note_samples(std::span<const int64_t> ids) {
  note_progress();
  const size_t kept = std::min(ids.size(), ProgressSlot::kSamples);
  for (size_t i = 0; i < kept; ++i) mine->samples[i].store(ids[i], std::memory_order_relaxed);
  mine->num_samples.store(static_cast<int64_t>(ids.size()), std::memory_order_release);
}

void note_leaving() { mine->leaving.store(1, std::memory_order_release); }

InSection::InSection(Section section)
    : outer_(static_cast<Section>(mine->section.load(std::memory_order_relaxed))) {
  enter(section);
}

InSection::~InSection() { enter(outer_); }

void InSection::change_to(Section section) { enter(section); }

void begin_section(Section section) { enter(section); }

BegunCollective begin_collective(Collective kind) {
  const int64_t number = mine->begun.load(std::memory_order_relaxed) + 1;
  mine->begun_kind.store(static_cast<int64_t>(kind), std::memory_order_relaxed);
  mine->begun.store(number, std::memory_order_release);
  return {kind, number};
}

InCollective::InCollective(BegunCollective collective) {
  if (polling) return;
  account.settle();
  note_progress();
  await(collective);
}

InCollective::~InCollective() {
  if (polling) return;
  account.settle();
  note_progress();
  await({});
}

Polling::Polling()
    : first_{static_cast<Collective>(mine->begun_kind.load(std::memory_order_relaxed)),
             mine->begun.load(std::memory_order_relaxed)} {
  note_progress();
  polling = true;
}

Polling::~Polling() {
  account.settle();
  polling = false;
  note_progress();
  await({});
}

void Polling::done_here() {
  account.settle();
  await(first_);
}

double SectionTimes::total() const {
  return std::accumulate(own.begin(), own.end(), 0.0) +
         std::accumulate(collectives.begin(), collectives.end(), 0.0);
}

SectionTimes operator-(const SectionTimes& a, const SectionTimes& b) {
  SectionTimes difference;
  for (size_t i = 0; i < kNumSections; ++i) {
    difference.own[i] = a.own[i] - b.own[i];
    difference.collectives[i] = a.collectives[i] - b.collectives[i];
  }
  return difference;
}

SectionTimes section_times() {
  account.settle();
  return account.times;
}

}  // namespace facet
