#include "checkpoint/checkpoint.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "base/check.h"
#include "base/log.h"
#include "io/file.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "step_";
constexpr int64_t kMaxManifest = int64_t{1} << 31;

void remove_leftovers(const std::string& directory) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string suffix = entry.path().extension().string();
    if (suffix.starts_with(".partial-") || suffix.starts_with(".removed-") ||
        suffix.starts_with(".replaced-"))
      found.push_back(entry.path());
  }
  for (const fs::path& path : found) fs::remove_all(path, error);
}

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

std::vector<int64_t> published_steps(const std::string& directory) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    int64_t step = -1;
    const char* const end = name.data() + name.size();
    const auto [stop, wrong] = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (wrong == std::errc() && stop == end && step >= 0) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string state_file_of(const std::string& checkpoint) { return checkpoint + "/state.h5"; }

Manifest read_manifest(const std::string& checkpoint) {
  const std::string path = checkpoint + "/manifest.json";
  return Manifest::parse(read_file(path, kMaxManifest), path);
}

CheckpointStore::CheckpointStore(std::string directory, int64_t keep_last, Communicator& world,
                                 MomentHook at_moment)
    : directory_(std::move(directory)),
      keep_last_(keep_last),
      world_(world),
      at_moment_(std::move(at_moment)) {
  ASSERT(keep_last_ >= 1, "no checkpoint would be kept");
}

std::string CheckpointStore::directory_of(int64_t step) const {
  return fmt::format("{}/{}{:08}", directory_, kPrefix, step);
}

void CheckpointStore::at_moment(const char* moment, int64_t step) const {
  if (at_moment_) at_moment_(moment, step);
}

std::optional<FoundCheckpoint> CheckpointStore::find_newest() {
  std::string steps_text;
  if (world_.rank() == 0) {
    remove_leftovers(directory_);
    for (const int64_t step : published_steps(directory_)) steps_text += fmt::format("{} ", step);
  }
  world_.broadcast(steps_text, 0);
  std::istringstream stream(steps_text);
  std::vector<int64_t> steps;
  for (int64_t step = 0; stream >> step;) steps.push_back(step);
  for (size_t i = steps.size(); i-- > 0;) {
    FoundCheckpoint found{directory_of(steps[i]), {}};
    try {
      collectively(world_, [&] {
        found.manifest = read_manifest(found.directory);
        CHECK(found.manifest.state.step == steps[i], ExitCode::kBadData,
              "{}: holds step {}: directories were swapped", found.directory,
              found.manifest.state.step);
        verify_state_file(state_file_of(found.directory), found.manifest, world_.rank(),
                          world_.size());
      });
      return found;
    } catch (const CollectiveError& error) {
      warn("checkpoint {} is not used: {}", found.directory, error.what());
    }
  }
  if (steps.empty()) return std::nullopt;
  throw CollectiveError(ExitCode::kBadData,
                        fmt::format("{}: none of the {} checkpoints can be used; remove the "
                                    "directory to begin from the start",
                                    directory_, steps.size()));
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
  std::string working = fmt::format("{}.partial-{}", directory_of(state.step), ::getpid());
  world_.broadcast(working, 0);
  Manifest manifest;
  manifest.state = state;
  manifest.arrays = arrays_of(params);
  try {
    write(working, manifest, ranges);
    publish(working, state.step);
  } catch (...) {
    std::error_code ignored;
    if (world_.rank() == 0) fs::remove_all(working, ignored);
    throw;
  }
  return directory_of(state.step);
}

void CheckpointStore::check_space(const std::vector<StoredArray>& arrays) const {
  const int64_t needed = estimated_bytes(arrays);
  const int64_t free = free_bytes(directory_);
  CHECK(needed <= free, ExitCode::kIo,
        "{}: a checkpoint needs {} bytes, {} are free; free space, or keep fewer with --keep_last",
        directory_, needed, free);
}

// Everything but the name: afterwards `working` is a whole, durable, verified checkpoint.
void CheckpointStore::write(const std::string& working, Manifest& manifest,
                            std::span<const StateRange> ranges) {
  const std::string path = state_file_of(working);
  const int64_t step = manifest.state.step;
  collectively(world_, [&] {
    if (world_.rank() != 0) return;
    make_directories(directory_);
    check_space(manifest.arrays);
    make_directories(working);
    create_state_file(path, manifest.state, manifest.arrays);
  });
  std::string offsets = packed_offsets(manifest.arrays);
  world_.broadcast(offsets, 0);
  unpack_offsets(offsets, manifest.arrays);

  std::string written;
  collectively(world_, [&] {
    written = text_of(
        write_ranges(path, manifest.arrays, ranges, [&] { at_moment("ckpt.write", step); }));
  });
  for (const std::string& of_rank : world_.all_gather(written))
    add_ranges(of_rank, manifest.arrays);
  sort_ranges(manifest.arrays);

  collectively(world_, [&] {
    seal_state_file(path, manifest);
    verify_state_file(path, manifest, world_.rank(), world_.size());
    if (world_.rank() == 0) write_file(working + "/manifest.json", manifest.text());
  });
}

void CheckpointStore::publish(const std::string& working, int64_t step) {
  const std::string place = directory_of(step);
  at_moment("ckpt.rename", step);
  collectively(world_, [&] {
    if (world_.rank() != 0) return;
    publish_directory(working, place);
    at_moment("ckpt.latest", step);
    write_file(directory_ + "/latest", fs::path(place).filename().string() + "\n");
    at_moment("ckpt.retention", step);
    remove_old(step);
  });
}

// Newer ones than the one just written were found damaged at the start; they are left to be looked
// at.
void CheckpointStore::remove_old(int64_t newest) const {
  std::vector<int64_t> steps = published_steps(directory_);
  std::erase_if(steps, [&](int64_t step) { return step > newest; });
  std::error_code ignored;
  for (size_t i = 0; i + static_cast<size_t>(keep_last_) < steps.size(); ++i) {
    // Under another name first: half a checkpoint must not look like one.
    const std::string going = fmt::format("{}.removed-{}", directory_of(steps[i]), ::getpid());
    fs::rename(directory_of(steps[i]), going, ignored);
    if (!ignored) fs::remove_all(going, ignored);
  }
}

}  // namespace facet
