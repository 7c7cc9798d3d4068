#include "checkpoint/checkpoint_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/check.h"
#include "base/log.h"
#include "base/start_thread.h"
#include "checkpoint/state_file.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "step_";
constexpr int64_t kMaxManifest = int64_t{1} << 31;

std::string name_of_step(int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::string manifest_of(const std::string& checkpoint) { return checkpoint + "/manifest.json"; }

void check_space(const std::string& directory, const std::vector<StoredArray>& arrays) {
  const int64_t needed = estimated_bytes(arrays);
  const int64_t free = free_bytes(directory);
  CHECK(needed <= free, ExitCode::kIo,
        "{}: a checkpoint needs {} bytes, {} are free; free space, or keep fewer with --keep_last",
        directory, needed, free);
}

}  // namespace

CheckpointDirectory::CheckpointDirectory(std::string path, int64_t keep_last, MomentHook at_moment)
    : path_(std::move(path)), keep_last_(keep_last), at_moment_(std::move(at_moment)) {
  ASSERT(keep_last_ >= 1, "no checkpoint would be kept");
}

std::string CheckpointDirectory::of_step(int64_t step) const {
  return fmt::format("{}/{}", path_, name_of_step(step));
}

void CheckpointDirectory::remove_leftovers() const { tidy_directory(path_, kNamesOfCheckpoints); }

void CheckpointDirectory::at_moment(const char* moment, int64_t step) const {
  if (at_moment_) at_moment_(moment, step);
}

std::string CheckpointDirectory::prepare(int64_t step, const std::vector<StoredArray>& arrays) {
  finish_removal();  // it frees space
  make_directories(path_);
  check_space(path_, arrays);
  return make_partial_directory(of_step(step));
}

// The checkpoint is there without it, and the program doesn't read it.
void CheckpointDirectory::write_latest(const std::string& place) const {
  try {
    write_file(path_ + "/latest", fs::path(place).filename().string() + "\n");
  } catch (const Error& error) {
    warn("{}", error.what());
  }
}

void CheckpointDirectory::publish(const std::string& working, int64_t step) {
  const std::string place = of_step(step);
  publish_directory(working, place);
  rejected_.erase(step);
  at_moment("ckpt.latest", step);
  write_latest(place);
  at_moment("ckpt.retention", step);
  remove_old(step);
}

// Checkpoints found damaged at the start are kept for inspection, and do not count among those to
// keep.
void CheckpointDirectory::remove_old(int64_t newest) {
  if (keeps_all_) return;
  std::vector<int64_t> steps = published_steps(path_);
  std::erase_if(steps, [&](int64_t step) { return step > newest || rejected_.contains(step); });
  std::vector<std::string> going;
  std::error_code error;
  for (size_t i = 0; i + static_cast<size_t>(keep_last_) < steps.size(); ++i) {
    // Renamed first: half a checkpoint must not look like one.
    const std::string name = fmt::format("{}.removed-{}", of_step(steps[i]), ::getpid());
    fs::rename(of_step(steps[i]), name, error);
    if (!error) going.push_back(name);
  }
  if (going.empty()) return;
  at_moment("ckpt.removal", newest);
  finish_removal();
  // Removing a large file can take the system a good part of a second.
  const auto remove = [going = std::move(going)] {
    std::error_code ignored;
    for (const std::string& name : going) fs::remove_all(name, ignored);
  };
  try {
    removal_ = start_thread("removing old checkpoints",
                            [&] { return std::async(std::launch::async, remove); });
  } catch (const Error&) {
    remove();  // without a thread it only takes longer
  }
}

void CheckpointDirectory::finish_removal() {
  if (removal_.valid()) removal_.get();
}

std::vector<int64_t> published_steps(const std::string& directory) {
  std::vector<int64_t> steps;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  if (error == std::errc::no_such_file_or_directory) return steps;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    int64_t step = -1;
    const char* const end = name.data() + name.size();
    const auto [stop, wrong] = std::from_chars(name.data() + kPrefix.size(), end, step);
    const bool number = wrong == std::errc() && stop == end && step >= 0;
    if (number && name == name_of_step(step)) steps.push_back(step);
  }
  // Must not be reported as "no checkpoints": a run that started from scratch would overwrite them.
  CHECK(!error, ExitCode::kIo, "{}: the checkpoints cannot be listed: {}", directory,
        error.message());
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string state_file_of(const std::string& checkpoint) { return checkpoint + "/state.h5"; }

Manifest read_manifest(const std::string& checkpoint) {
  const std::string path = manifest_of(checkpoint);
  return Manifest::parse(read_file(path, kMaxManifest, ExitCode::kIo), path);
}

void write_manifest(const std::string& checkpoint, const Manifest& manifest) {
  write_file(manifest_of(checkpoint), manifest.text());
}

}  // namespace facet
