#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/collective_write.h"

namespace facet {

namespace {

// The bits of CheckpointStore::progress_bits().
constexpr int64_t kWritingBit = 1, kFailedBit = 2;

// Numbers as bytes, to send them.
std::string packed_offsets(const std::vector<StoredArray>& arrays) {
  std::string bytes;
  for (const StoredArray& array : arrays)
    bytes.append(reinterpret_cast<const char*>(&array.offset), sizeof array.offset);
  return bytes;
}

void unpack_offsets(const std::string& bytes, std::vector<StoredArray>& arrays) {
  ASSERT(bytes.size() == arrays.size() * sizeof(int64_t), "{} bytes for {} arrays", bytes.size(),
         arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i)
    std::memcpy(&arrays[i].offset, bytes.data() + i * sizeof(int64_t), sizeof(int64_t));
}

std::string text_of(const std::vector<WrittenRange>& ranges) {
  std::string text;
  for (const WrittenRange& w : ranges)
    text += fmt::format("{} {} {} {}\n", w.array, w.range.begin, w.range.count, w.range.hash);
  return text;
}

void add_ranges(const std::string& text, std::vector<StoredArray>& arrays) {
  std::istringstream stream(text);
  WrittenRange w;
  while (stream >> w.array >> w.range.begin >> w.range.count >> w.range.hash)
    arrays[static_cast<size_t>(w.array)].ranges.push_back(w.range);
}

void sort_ranges(std::vector<StoredArray>& arrays) {
  for (StoredArray& array : arrays)
    std::sort(array.ranges.begin(), array.ranges.end(),
              [](const StoredRange& a, const StoredRange& b) { return a.begin < b.begin; });
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

void compare_arrays(const Manifest& manifest, const std::vector<StoredArray>& wanted,
                    const std::string& directory) {
  std::string differences;
  for (const StoredArray& array : wanted) {
    const StoredArray* stored = manifest.find(array.name);
    if (stored == nullptr)
      differences += fmt::format("\n  {}: trained now, not in the checkpoint", array.name);
    else if (stored->shape != array.shape)
      differences += fmt::format("\n  {}: {} in the checkpoint, {} now", array.name,
                                 shape_text(stored->shape), shape_text(array.shape));
    else if (stored->group != array.group)
      differences += fmt::format("\n  {}: group {} in the checkpoint, {} now", array.name,
                                 stored->group, array.group);
  }
  for (const StoredArray& stored : manifest.arrays)
    if (std::none_of(wanted.begin(), wanted.end(),
                     [&](const StoredArray& array) { return array.name == stored.name; }))
      differences += fmt::format("\n  {}: in the checkpoint, not trained now", stored.name);
  CHECK(differences.empty(), ExitCode::kConfig,
        "{}: its trained parameters are not those of this run:{}", directory, differences);
}

}  // namespace

CheckpointStore::CheckpointStore(std::string directory, int64_t keep_last, Communicator& world,
                                 MomentHook at_moment, CheckpointIo io)
    : directory_(std::move(directory), keep_last, std::move(at_moment)), world_(world), io_(io) {}

// Abandons a save that an error elsewhere left in flight.
CheckpointStore::~CheckpointStore() { give_up(); }

void CheckpointStore::give_up() {
  background_.give_up();
  if (in_flight_) discard(*in_flight_);
  in_flight_.reset();
}

std::optional<FoundCheckpoint> CheckpointStore::find_newest(const StateCheck& check) {
  std::vector<int64_t> candidates = steps();
  std::reverse(candidates.begin(), candidates.end());
  std::optional<FoundCheckpoint> found = first_that_verifies(candidates, check);
  if (found || candidates.empty()) return found;
  throw CollectiveError(ExitCode::kBadData,
                        fmt::format("{}: none of the {} checkpoints can be used; remove the "
                                    "directory to start from scratch",
                                    directory_.path(), candidates.size()));
}

std::optional<FoundCheckpoint> CheckpointStore::find_newest_up_to(int64_t step,
                                                                  const StateCheck& check) {
  std::vector<int64_t> candidates = steps();
  std::erase_if(candidates, [&](int64_t each) { return each > step; });
  std::reverse(candidates.begin(), candidates.end());
  return first_that_verifies(candidates, check);
}

std::vector<int64_t> CheckpointStore::steps() {
  std::string text;
  collectively(world_, [&] {
    if (world_.rank() != 0) return;
    directory_.remove_leftovers();
    for (const int64_t step : published_steps(directory_.path())) text += fmt::format("{} ", step);
  });
  world_.broadcast(text, 0);
  std::istringstream stream(text);
  std::vector<int64_t> steps;
  for (int64_t step = 0; stream >> step;) steps.push_back(step);
  return steps;
}

std::optional<FoundCheckpoint> CheckpointStore::first_that_verifies(
    const std::vector<int64_t>& newest_first, const StateCheck& check) {
  for (const int64_t step : newest_first) {
    FoundCheckpoint found{directory_.of_step(step), {}};
    try {
      collectively(world_, [&] {
        found.manifest = read_manifest(found.directory);
        CHECK(found.manifest.state.step == step, ExitCode::kBadData,
              "{}: holds step {}: directories were swapped", found.directory,
              found.manifest.state.step);
        if (check) check(found.manifest.state, found.directory);
        verify_state_file(state_file_of(found.directory), found.manifest, world_.rank(),
                          world_.size());
      });
      return found;
    } catch (const CollectiveError& error) {
      // A read error does not mean that the checkpoint is damaged.
      if (error.code() != ExitCode::kBadData && error.code() != ExitCode::kMissingInput) throw;
      warn("checkpoint {} is not used: {}", found.directory, error.what());
      directory_.reject(step);
    }
  }
  return std::nullopt;
}

void CheckpointStore::load(const FoundCheckpoint& found, std::span<const StoredParam> params,
                           std::span<const StateRange> ranges) {
  collectively(world_, [&] {
    compare_arrays(found.manifest, arrays_of(params), found.directory);
    read_ranges(state_file_of(found.directory), found.manifest, ranges);
  });
}

std::string CheckpointStore::save(const RunState& state, std::span<const StoredParam> params,
                                  std::span<const StateRange> ranges) {
  Unpublished checkpoint = create(state, params);
  try {
    return publish(checkpoint, write(checkpoint, ranges));
  } catch (...) {
    discard(checkpoint);
    throw;
  }
}

void CheckpointStore::start_save(const RunState& state, std::span<const StoredParam> params,
                                 std::span<const StateRange> ranges, RangesStay stay) {
  ASSERT(io_ == CheckpointIo::kPosix, "HDF5 and MPI-IO can only be used by the main thread");
  ASSERT(!saving(), "step {} is saved while step {} is", state.step, saving_step());
  in_flight_ = create(state, params);
  const auto at_moment = [this, step = state.step](const char* moment) {
    directory_.at_moment(moment, step);
  };
  try {
    collectively(world_, [&] {
      background_.start(state_file_of(in_flight_->working), in_flight_->manifest.arrays, ranges,
                        stay, at_moment);
    });
  } catch (...) {
    give_up();
    throw;
  }
}

std::string CheckpointStore::finish_save() {
  ASSERT(saving(), "no save is in flight");
  const std::vector<WrittenRange> written = written_in_background();
  Unpublished checkpoint = std::move(*in_flight_);
  in_flight_.reset();
  try {
    return publish(checkpoint, written);
  } catch (...) {
    discard(checkpoint);
    throw;
  }
}

int64_t CheckpointStore::progress_bits() const {
  switch (background_.progress()) {
    case BackgroundWrite::Progress::kWriting: return kWritingBit;
    case BackgroundWrite::Progress::kFailed: return kFailedBit;
    default: return 0;
  }
}

bool CheckpointStore::save_is_over(int64_t bits_of_all) {
  return (bits_of_all & kFailedBit) != 0 || (bits_of_all & kWritingBit) == 0;
}

// Once one rank has failed the others stop writing.
std::vector<WrittenRange> CheckpointStore::written_in_background() {
  constexpr std::chrono::milliseconds kBetweenQuestions{5};
  int64_t bits = world_.bit_or(progress_bits());
  {
    Polling polling;
    for (; !save_is_over(bits); bits = world_.bit_or(progress_bits())) {
      if (progress_bits() == 0) polling.done_here();
      std::this_thread::sleep_for(kBetweenQuestions);
    }
  }
  if ((bits & kFailedBit) != 0) background_.stop();
  std::vector<WrittenRange> written;
  try {
    collectively(world_, [&] { written = background_.take(); });
  } catch (...) {
    give_up();
    throw;
  }
  return written;
}

// Creates the file with all its arrays, without values.
CheckpointStore::Unpublished CheckpointStore::create(const RunState& state,
                                                     std::span<const StoredParam> params) {
  Unpublished checkpoint;
  Manifest& manifest = checkpoint.manifest;
  manifest.state = state;
  manifest.arrays = arrays_of(params);
  try {
    collectively(world_, [&] {
      if (world_.rank() != 0) return;
      checkpoint.working = directory_.prepare(state.step, manifest.arrays);
      create_state_file(state_file_of(checkpoint.working), state, manifest.arrays);
    });
  } catch (...) {
    discard(checkpoint);
    throw;
  }
  world_.broadcast(checkpoint.working, 0);
  std::string offsets = packed_offsets(manifest.arrays);
  world_.broadcast(offsets, 0);
  unpack_offsets(offsets, manifest.arrays);
  directory_.at_moment("ckpt.begin", state.step);
  return checkpoint;
}

std::vector<WrittenRange> CheckpointStore::write(const Unpublished& checkpoint,
                                                 std::span<const StateRange> ranges) {
  const Manifest& manifest = checkpoint.manifest;
  const std::string path = state_file_of(checkpoint.working);
  const auto at_moment = [&](const char* moment) {
    directory_.at_moment(moment, manifest.state.step);
  };
  if (io_ == CheckpointIo::kCollective)
    return write_ranges_collectively(path, manifest.arrays, ranges, at_moment, world_);
  std::vector<WrittenRange> written;
  collectively(world_, [&] { written = write_ranges(path, manifest.arrays, ranges, at_moment); });
  return written;
}

// Everything is on disk now except the manifest and the name.
std::string CheckpointStore::publish(Unpublished& checkpoint,
                                     const std::vector<WrittenRange>& written) {
  Manifest& manifest = checkpoint.manifest;
  const int64_t step = manifest.state.step;
  for (const std::string& of_rank : world_.all_gather(text_of(written)))
    add_ranges(of_rank, manifest.arrays);
  sort_ranges(manifest.arrays);
  collectively(world_, [&] {
    const bool publishes = world_.rank() == 0;
    if (publishes) {
      seal_state_file(state_file_of(checkpoint.working), manifest);
      write_manifest(checkpoint.working, manifest);
    }
    directory_.at_moment("ckpt.rename", step);
    if (publishes) directory_.publish(checkpoint.working, step);
  });
  return directory_.of_step(step);
}

void CheckpointStore::discard(const Unpublished& checkpoint) const {
  std::error_code ignored;
  if (world_.rank() == 0 && !checkpoint.working.empty())
    std::filesystem::remove_all(checkpoint.working, ignored);
}

}  // namespace facet
