#include "train/export_place.h"

#include <array>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/log.h"
#include "io/file.h"
#include "io/left_overs.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

std::string without_end_slashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace

ExportPlace::ExportPlace(std::string to)
    : to_(without_end_slashes(std::move(to))), lock_directory_(to_ + ".exporting") {
  make_directories(lock_directory_);
  lock_ = std::make_unique<RunLock>(
      LockRequest{.output_dir = lock_directory_, .another_place = "another --to"});
  remove_left_overs();
}

ExportPlace::~ExportPlace() {
  lock_.reset();
  std::error_code ignored;
  fs::remove(lock_directory_, ignored);  // unless something else lies in it
}

void tidy_published(const std::string& to) {
  const std::string place = without_end_slashes(to);
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(place, ignored)) ||
      !fs::is_directory(place + ".exporting", ignored))
    return;
  try {
    const ExportPlace taken(place);
  } catch (const Error&) {
    // Another export has it, or it is somebody else's.
  }
}

// A name with # stands for others too (left_overs()).
void ExportPlace::remove_left_overs() const {
  const std::optional<LockHolder> dead = LockHolder::parse(lock_->dead_holder());
  const fs::path place = to_;
  const std::string name = place.filename().string() + "/";
  const std::array<std::string_view, 1> own = {name};
  for (const LeftOver& left : left_overs(directory_of(to_), own)) {
    if (left.name.filename() != place.filename()) continue;
    if (dead && dead->pid == left.process) {
      std::error_code ignored;
      fs::remove_all(left.path, ignored);
      log("removed {}, which a killed export had left", left.path.string());
    } else {
      warn(
          "{} lies there: a killed process has left it, or another is writing it; if none is, "
          "remove it",
          left.path.string());
    }
  }
}

}  // namespace facet
