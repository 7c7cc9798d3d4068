#include "train/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <new>
#include <span>

#include "base/check.h"
#include "base/end_report.h"
#include "base/log.h"
#include "checkpoint/adapter.h"
#include "checkpoint/checkpoint_directory.h"
#include "io/input_file.h"
#include "io/llava_directory.h"
#include "io/tensor_directory.h"
#include "model/vision_family.h"
#include "options/hub_cache.h"
#include "train/file_for_directory.h"
#include "train/inspect_file.h"
#include "train/inspect_llava.h"
#include "train/inspect_model.h"
#include "train/inspect_vision.h"
#include "train/stored_checkpoint.h"

namespace facet {

namespace {

constexpr int kDifferent = 1;

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

void describe_part(const char* name, const std::optional<AdapterPart>& part) {
  if (!part) return;
  log("{}: {} of rank {}, alpha {:g}{}, on {} linear layers of {}", name,
      part->lora.dora ? "DoRA" : "LoRA", part->lora.rank, part->lora.alpha,
      part->lora.rank_stabilised ? ", rank-stabilised" : "", part->lora.modules.size(),
      part->base_model.empty() ? "a model that it does not name" : part->base_model);
  std::map<std::pair<int64_t, float>, int> own;
  for (const auto& [path, size] : part->lora.own) ++own[{size.rank, size.alpha}];
  for (const auto& [size, layers] : own)
    log("  of rank {}, alpha {:g} on {} of them", size.first, size.second, layers);
  if (!part->saved_modules.empty())
    log("  modules_to_save, whole: {}", fmt::join(part->saved_modules, ", "));
}

bool is_of_vision_encoder(const AdapterPart& part) {
  return std::ranges::any_of(all_vision_traits(), [&](const VisionTraits& family) {
    return part.lora.modules.begin()->starts_with(family.names->blocks);
  });
}

int describe_adapter(const std::string& path) {
  const Adapter adapter = read_adapter(path);
  log("adapter {}", path);
  // A directory that has a configuration itself may be either part.
  if (adapter.lang && is_of_vision_encoder(*adapter.lang)) {
    describe_part("vis_encoder", adapter.lang);
    log("this is a part of an adapter: give --adapter the directory that vis_encoder lies in");
    return 0;
  }
  describe_part("lang_decoder", adapter.lang);
  describe_part("vis_encoder", adapter.vision);
  for (const std::string& file : {adapter.projection_file, adapter.other_file}) {
    if (file.empty()) continue;
    const TensorDirectory tensors = TensorDirectory::of_file(file);
    log("{}: {} tensors", file, tensors.names().size());
    for (const auto& [key, value] : tensors.metadata()) log("  {} {}", key, value);
  }
  log("use it with --adapter {} and the models that it was trained on", path);
  return 0;
}

int describe(const std::string& path) {
  if (is_adapter(path)) return describe_adapter(path);
  const StoredCheckpoint checkpoint =
      open_verified(path, fmt::format("{}, config.json (a model) or adapter_config.json (an "
                                      "adapter)",
                                      kFilesOfCheckpoints));
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

int64_t compare_arrays(const StoredCheckpoint& a, const StoredCheckpoint& b) {
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
  const StoredCheckpoint a = open_verified(first), b = open_verified(second);
  const int64_t fields = compare_states(a.manifest.state, b.manifest.state);
  const int64_t arrays = compare_arrays(a, b);
  log("{} of {} arrays and {} fields differ", arrays, a.manifest.arrays.size(), fields);
  return arrays + fields > 0 ? kDifferent : 0;
}

// A name of the hub stands for its snapshot.
std::string path_of(const std::string& word) {
  std::error_code ignored;
  if (std::filesystem::exists(word, ignored)) return word;
  const std::optional<HubLookup> hub = look_up_in_hub_cache(word);
  CHECK(hub && !hub->directory.empty(), ExitCode::kMissingInput, "{}: no such directory{}", word,
        hub ? "; as a name of the Hugging Face hub: " + hub->failure : "");
  return hub->directory;
}

// A whole model in its parts, as an export has them. Returns the exit code: of a part that lacks
// something.
int inspect_parts(const std::string& path) {
  const int decoder = inspect_model(path + "/lang_decoder");
  const int encoder = inspect_vision(path + "/vis_encoder");
  const std::string projection = path + "/projection.safetensors";
  log("projection {}: {} tensors", projection, TensorDirectory::of_file(projection).names().size());
  return decoder != 0 ? decoder : encoder;
}

int inspect_path(const std::string& path) {
  if (is_file(path)) return inspect_file(path);
  if (is_llava_directory(path)) return inspect_llava(path);
  if (is_vision_directory(path)) return inspect_vision(path);
  std::error_code ignored;
  if (std::filesystem::exists(path + "/lang_decoder/config.json", ignored))
    return inspect_parts(path);
  return is_model_directory(path) ? inspect_model(path) : describe(path);
}

constexpr const char* kHelp =
    "usage: facet inspect MODEL\n"
    "         of a language model's, a vision encoder's or a whole LLaVA's directory its family "
    "and\n"
    "         configuration, and what is missing; exit code 66 when anything is\n"
    "       facet inspect CHECKPOINT\n"
    "         its step, counts, options, arrays and hashes; every byte is verified\n"
    "       facet inspect CHECKPOINT CHECKPOINT\n"
    "         which arrays and counts differ, and by how much; exit code 1 when any does\n"
    "       facet inspect ADAPTER\n"
    "         its LoRA, the base models that it wants, and what else is in it\n"
    "       facet inspect FILE\n"
    "         of a safetensors or PyTorch file its tensors, of another what it is\n\n"
    "A MODEL is a directory with config.json, its name in the local cache of the Hugging Face "
    "hub,\n"
    "or an export with lang_decoder, vis_encoder and projection.safetensors.\n"
    "A CHECKPOINT is OUT/checkpoints/step_N, or OUT for its newest one.\n";

}  // namespace

int inspect_command(const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), "--help") != words.end())
    return fmt::print("{}", kHelp), 0;
  try {
    if (words.size() == 1) return inspect_path(path_of(words[0]));
    if (words.size() == 2) return compare_checkpoints(words[0], words[1]);
    fail(ExitCode::kUsage,
         "facet inspect takes a model, an adapter, or one checkpoint or two; see facet inspect "
         "--help");
  } catch (const Error& error) {
    print_end_report(fmt::format("error: {}", error.what()), "");
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "error: out of memory\n");
    return static_cast<int>(ExitCode::kConfig);
  }
}

}  // namespace facet
