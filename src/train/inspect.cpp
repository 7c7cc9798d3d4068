#include "train/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <new>
#include <span>

#include "base/check.h"
#include "base/end_report.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "io/input_file.h"
#include "train/inspect_model.h"
#include "train/inspect_vision.h"

namespace facet {

namespace {

constexpr int kDifferent = 1;

struct Checkpoint {
  std::string directory;
  Manifest manifest;
};

// The path itself if it is a checkpoint, else the newest one of that run.
std::string checkpoint_at(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const std::string& directory : {path, path + "/checkpoints"}) {
    if (fs::exists(directory + "/manifest.json", error)) return directory;
    const std::vector<int64_t> steps = published_steps(directory);
    if (!steps.empty()) return fmt::format("{}/step_{:08}", directory, steps.back());
  }
  fail(ExitCode::kMissingInput, "{}: no checkpoint is there", path);
}

Checkpoint open_verified(const std::string& path) {
  Checkpoint checkpoint{checkpoint_at(path), {}};
  checkpoint.manifest = read_manifest(checkpoint.directory);
  verify_state_file(state_file_of(checkpoint.directory), checkpoint.manifest, 0, 1);
  return checkpoint;
}

std::string indented(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c;
    if (c == '\n') result += "  ";
  }
  while (result.ends_with(' ') || result.ends_with('\n')) result.pop_back();
  return result;
}

std::string field_text(int64_t value) { return fmt::format("{}", value); }
std::string field_text(double value) { return fmt::format("{}", value); }
std::string field_text(const std::string& value) { return value; }
std::string field_text(const std::vector<int64_t>& values) {
  return fmt::format("{}", fmt::join(values, " "));
}

void print_state(const RunState& state) {
  visit_fields(state, [](const std::string& name, const auto& value) {
    if (name == "options")
      log("options\n  {}", indented(field_text(value)));
    else
      log("{:<26}{}", name, field_text(value));
  });
  const std::string& chosen = state.product_choices;
  log("{:<26}{}", "product_choices", std::count(chosen.begin(), chosen.end(), '\n'));
}

void print_array(const StoredArray& array) {
  log("{}  ({})  {} bytes  group {}", array.name, fmt::join(array.shape, ", "), array.bytes(),
      array.group);
  for (const StoredRange& range : array.ranges)
    log("  {:>12} +{:<12} {}", range.begin, range.count, range.hash);
}

int describe(const std::string& path) {
  const Checkpoint checkpoint = open_verified(path);
  const Manifest& manifest = checkpoint.manifest;
  log("checkpoint {}", checkpoint.directory);
  print_state(manifest.state);
  log("{} arrays in {} bytes", manifest.arrays.size(), manifest.file_bytes);
  for (const StoredArray& array : manifest.arrays) print_array(array);
  log("verified: every byte has the hash it was written with");
  return 0;
}

struct Difference {
  int64_t elements = 0;  // that differ
  double absolute = 0, relative = 0;

  void add(float a, float b) {
    if (a == b || (std::isnan(a) && std::isnan(b))) return;
    ++elements;
    const double distance = std::abs(static_cast<double>(a) - static_cast<double>(b));
    const double size =
        std::max(std::abs(static_cast<double>(a)), std::abs(static_cast<double>(b)));
    // A NaN on one side only counts as an infinite difference.
    absolute = std::isnan(distance) ? INFINITY : std::max(absolute, distance);
    relative = std::isnan(distance) ? INFINITY : std::max(relative, distance / size);
  }
};

Difference compare(const InputFile& file_a, const StoredArray& a, const InputFile& file_b,
                   const StoredArray& b) {
  constexpr int64_t kPiece = int64_t{1} << 18;  // elements
  std::vector<float> x(kPiece), y(kPiece);
  Difference difference;
  for (int64_t begin = 0; begin < a.elements(); begin += kPiece) {
    const int64_t count = std::min(kPiece, a.elements() - begin);
    const auto size = int64_t{sizeof(float)};
    file_a.read_at(a.offset + begin * size, x.data(), count * size);
    file_b.read_at(b.offset + begin * size, y.data(), count * size);
    for (int64_t i = 0; i < count; ++i)
      difference.add(x[static_cast<size_t>(i)], y[static_cast<size_t>(i)]);
  }
  return difference;
}

// How a run was launched and how long its logs are says nothing about what it computed.
bool incidental(const std::string& field) {
  return field == "options" || field == "ranks" || field.ends_with("_bytes");
}

// Fields that differ, one line each; returns how many that matter.
int64_t compare_states(const RunState& a, const RunState& b) {
  std::vector<std::string> texts;
  visit_fields(a, [&](const char*, const auto& value) { texts.push_back(field_text(value)); });
  int64_t differing = 0;
  size_t i = 0;
  visit_fields(b, [&](const std::string& name, const auto& value) {
    const std::string before = texts[i++];
    if (before == field_text(value)) return;
    differing += !incidental(name);
    if (name == "options")
      log("options differ");
    else
      log("{}: {} and {}", name, before, field_text(value));
  });
  return differing;
}

int64_t compare_arrays(const Checkpoint& a, const Checkpoint& b) {
  const InputFile file_a(state_file_of(a.directory), ExitCode::kIo);
  const InputFile file_b(state_file_of(b.directory), ExitCode::kIo);
  int64_t differing = 0;
  for (const StoredArray& array : a.manifest.arrays) {
    const StoredArray* other = b.manifest.find(array.name);
    if (other == nullptr || other->shape != array.shape) {
      ++differing;
      log("{}: {}", array.name, other == nullptr ? "only in the first" : "shapes differ");
      continue;
    }
    const Difference d = compare(file_a, array, file_b, *other);
    if (d.elements == 0) continue;
    ++differing;
    log("{}: {} of {} elements differ, by at most {:.9g} (relative {:.3g})", array.name, d.elements,
        array.elements(), d.absolute, d.relative);
  }
  for (const StoredArray& array : b.manifest.arrays)
    if (a.manifest.find(array.name) == nullptr) {
      ++differing;
      log("{}: only in the second", array.name);
    }
  return differing;
}

int compare_checkpoints(const std::string& first, const std::string& second) {
  const Checkpoint a = open_verified(first), b = open_verified(second);
  const int64_t fields = compare_states(a.manifest.state, b.manifest.state);
  const int64_t arrays = compare_arrays(a, b);
  log("{} of {} arrays and {} fields differ", arrays, a.manifest.arrays.size(), fields);
  return arrays + fields > 0 ? kDifferent : 0;
}

constexpr const char* kHelp =
    "usage: facet inspect MODEL\n"
    "         of a language model's or a vision encoder's directory its family and configuration,\n"
    "         and what is missing; exit code 66 when anything is\n"
    "       facet inspect CHECKPOINT\n"
    "         its step, counts, options, arrays and hashes; every byte is verified\n"
    "       facet inspect CHECKPOINT CHECKPOINT\n"
    "         which arrays and counts differ, and by how much; exit code 1 when any does\n\n"
    "A MODEL is a directory with config.json.\n"
    "A CHECKPOINT is OUT/checkpoints/step_N, or OUT for its newest one.\n";

}  // namespace

int inspect_command(const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), "--help") != words.end())
    return fmt::print("{}", kHelp), 0;
  try {
    if (words.size() == 1 && is_vision_directory(words[0])) return inspect_vision(words[0]);
    if (words.size() == 1)
      return is_model_directory(words[0]) ? inspect_model(words[0]) : describe(words[0]);
    if (words.size() == 2) return compare_checkpoints(words[0], words[1]);
    fail(ExitCode::kUsage,
         "facet inspect takes a model, or one checkpoint or two; see facet inspect --help");
  } catch (const Error& error) {
    print_end_report(fmt::format("error: {}", error.what()), "");
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "error: out of memory\n");
    return static_cast<int>(ExitCode::kConfig);
  }
}

}  // namespace facet
