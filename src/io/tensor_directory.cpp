#include "io/tensor_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "io/content_kind.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/torch_file.h"

namespace facet {

namespace {

constexpr int64_t kMaxIndexBytes = 100'000'000;
constexpr std::string_view kIndexEnd = ".index.json";
// What is looked for, in this order.
constexpr const char* kModelFiles[] = {"model.safetensors", "model.safetensors.index.json",
                                       "pytorch_model.bin", "pytorch_model.bin.index.json"};

struct OtherWeights {
  std::string_view file;  // the begin of its name
  std::string_view what;
};
constexpr std::string_view kUseAdapter =
    "these are the weights of an adapter (PEFT), not of a model; give this directory as --adapter, "
    "and here that of its base model";
constexpr std::string_view kConvertOriginal =
    "the original format of the model's makers; give the converted repository (for Llama its name "
    "ends in -hf)";
constexpr std::string_view kOtherName = "no name that is looked for";
constexpr OtherWeights kOtherWeights[] = {
    {"adapter_model.", kUseAdapter},
    {"consolidated", kConvertOriginal},
    {"tf_model", "weights of TensorFlow; convert them in Python"},
    {"flax_model", "weights of Flax; convert them in Python"},
};
constexpr OtherWeights kShards[] = {
    {"model-0", "a shard without its model.safetensors.index.json; fetch that file too"},
    {"pytorch_model-0", "a shard without its pytorch_model.bin.index.json; fetch that file too"},
};

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// What `hf download` is told to fetch a snapshot in the hub's cache again, whose directory is
// models--ORG--NAME/snapshots/COMMIT; "" for other directories. Without the commit it would fetch
// what is newest on the hub.
std::string words_to_fetch(const std::filesystem::path& directory) {
  constexpr std::string_view kBegin = "models--", kBetween = "--";
  const std::filesystem::path snapshots = directory.parent_path();
  const std::string model = snapshots.parent_path().filename().string();
  if (snapshots.filename() != "snapshots" || !model.starts_with(kBegin)) return "";
  const std::string name = model.substr(kBegin.size());
  const size_t at = name.find(kBetween);
  const std::string full =
      at == name.npos ? name
                      : fmt::format("{}/{}", name.substr(0, at), name.substr(at + kBetween.size()));
  return fmt::format("{} --revision {}", full, directory.filename().string());
}

std::string how_to_complete(const std::string& directory) {
  const std::string words = words_to_fetch(directory);
  return words.empty() ? "" : fmt::format("; fetch all of it: hf download {}", words);
}

bool has_weights_name(std::string_view name) {
  return name.ends_with(".safetensors") || name.ends_with(".gguf") ||
         name.starts_with("pytorch_model");
}

std::unique_ptr<TensorFile> open_torch_or_safetensors(const std::string& path, bool torch) {
  if (torch) return std::make_unique<TorchFile>(path);
  return std::make_unique<SafetensorsFile>(path);
}

// By what it holds, else by its name.
std::unique_ptr<TensorFile> open_by_content(const std::string& path) {
  switch (content_kind(beginning_of(InputFile(path)))) {
    case ContentKind::kSafetensors: return open_torch_or_safetensors(path, false);
    case ContentKind::kTorchZip:
    case ContentKind::kZip:
    case ContentKind::kPickle: return open_torch_or_safetensors(path, true);
    default: return open_torch_or_safetensors(path, is_torch_name(path));
  }
}

// All files of an index must be there; one message names those that are not.
void need_shards(const JsonValue& weight_map, const std::string& directory,
                 const std::string& index) {
  std::set<std::string> shards, missing;
  for (int64_t i = 0; i < weight_map.size(); ++i) {
    const JsonValue entry = weight_map.member(i).second;
    const std::string name(entry.as_string());
    if (name.find('/') != std::string::npos)
      entry.reject("a shard must be in the same directory as the index");
    if (shards.insert(name).second && !exists(directory + "/" + name)) missing.insert(name);
  }
  CHECK(missing.empty(), ExitCode::kMissingInput, "{}: of its {} files these are not there: {}{}",
        index, shards.size(), fmt::join(missing, ", "), how_to_complete(directory));
}

}  // namespace

std::string what_lies_there_instead(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::filesystem::path path = directory + "/" + name;
    if ((name == "config.json" || has_weights_name(name)) && !exists(path.string()))
      return fmt::format("; {} is a link to {}, which is not there{}", name,
                         std::filesystem::read_symlink(path, ignored).string(),
                         how_to_complete(directory));
  }
  const auto find = [&](auto&& kinds) -> std::string {
    for (const OtherWeights& other : kinds)
      for (const std::string& name : names)
        if (name.starts_with(other.file)) return fmt::format("; it holds {}: {}", name, other.what);
    return "";
  };
  if (const std::string other = find(kOtherWeights); !other.empty()) return other;
  if (TensorDirectory::is_there(directory)) return "";
  if (const std::string shard = find(kShards); !shard.empty()) return shard;
  for (const std::string& name : names)
    if (has_weights_name(name)) return fmt::format("; it holds {}: {}", name, kOtherName);
  return how_to_complete(directory);
}

TensorDirectory::TensorDirectory(std::string directory) : directory_(std::move(directory)) {
  std::error_code ignored;
  CHECK(std::filesystem::is_directory(directory_, ignored), ExitCode::kMissingInput,
        "{}: no such directory; a model is given as a local directory", directory_);
  const auto* name =
      std::find_if(std::begin(kModelFiles), std::end(kModelFiles),
                   [&](const char* file) { return exists(directory_ + "/" + file); });
  CHECK(name != std::end(kModelFiles), ExitCode::kMissingInput,
        "{}: neither model.safetensors nor pytorch_model.bin nor one of them with .index.json{}",
        directory_, what_lies_there_instead(directory_));
  source_ = directory_ + "/" + *name;
  if (source_.ends_with(kIndexEnd))
    open_index();
  else
    add_file(open_torch_or_safetensors(source_, is_torch_name(source_)));
}

bool TensorDirectory::is_there(const std::string& directory) {
  return std::any_of(std::begin(kModelFiles), std::end(kModelFiles),
                     [&](const char* name) { return exists(directory + "/" + name); });
}

std::string TensorDirectory::not_read() const {
  bool read = false;
  for (const char* name : kModelFiles) {
    const std::string path = directory_ + "/" + name;
    if (read && exists(path)) return path;
    read = read || path == source_;
  }
  return "";
}

TensorDirectory TensorDirectory::of_file(const std::string& path) {
  TensorDirectory result;
  result.directory_ = result.source_ = path;
  result.add_file(open_by_content(path));
  return result;
}

void TensorDirectory::add_file(std::unique_ptr<TensorFile> file) {
  for (const auto& [name, tensor] : file->tensors()) places_.emplace(name, Place{file.get(), name});
  files_.push_back(std::move(file));
}

void TensorDirectory::open_index() {
  const bool torch = is_torch_name(source_.substr(0, source_.size() - kIndexEnd.size()));
  const JsonDocument index = JsonDocument::read(source_, ExitCode::kBadData, kMaxIndexBytes);
  const JsonValue weight_map = index.root().at("weight_map");
  need_shards(weight_map, directory_, source_);
  std::map<std::string, const TensorFile*, std::less<>> opened;
  for (int64_t i = 0; i < weight_map.size(); ++i) {
    const auto [name, entry] = weight_map.member(i);
    const std::string file_name(entry.as_string());
    auto found = opened.find(file_name);
    if (found == opened.end()) {
      files_.push_back(open_torch_or_safetensors(directory_ + "/" + file_name, torch));
      found = opened.emplace(file_name, files_.back().get()).first;
    }
    if (found->second->find(name) == nullptr)
      entry.reject(
          "the shard does not hold this tensor; the index and the shards do not belong "
          "together");
    places_.emplace(name, Place{found->second, std::string(name)});
  }
  for (const auto& file : files_)
    for (const auto& [name, tensor] : file->tensors()) {
      const auto found = places_.find(name);
      CHECK(found != places_.end() && found->second.file == file.get(), ExitCode::kBadData,
            "{}: does not name {} of {}; the index and the shards do not belong together", source_,
            name, file->path());
    }
}

TensorDirectory TensorDirectory::renamed(
    const std::function<std::string(const std::string&)>& new_name) && {
  std::map<std::string, Place, std::less<>> places;
  for (auto& [name, place] : places_) {
    std::string renamed = new_name(name);
    if (renamed.empty()) continue;
    const auto [found, added] = places.emplace(std::move(renamed), place);
    CHECK(added, ExitCode::kBadData, "{}: {} and {} are the same tensor of the model", source_,
          found->second.name, name);
  }
  places_ = std::move(places);
  return std::move(*this);
}

const TensorDirectory::Place& TensorDirectory::place_of(std::string_view name) const {
  const auto found = places_.find(name);
  CHECK(found != places_.end(), ExitCode::kBadData, "{}: there is no tensor {}", directory_, name);
  return found->second;
}

std::vector<std::string> TensorDirectory::names() const {
  std::vector<std::string> all;
  for (const auto& [name, place] : places_) all.push_back(name);
  return all;
}

const StoredTensor* TensorDirectory::find(std::string_view name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : found->second.file->find(found->second.name);
}

const std::string& TensorDirectory::path_of(std::string_view name) const {
  return place_of(name).file->path();
}

void TensorDirectory::read_f32(std::string_view name, int64_t begin, int64_t count,
                               float* out) const {
  const Place& place = place_of(name);
  place.file->read_f32(place.name, begin, count, out);
}

const std::map<std::string, std::string>& TensorDirectory::metadata() const {
  static const std::map<std::string, std::string> none;
  return files_.empty() ? none : files_.front()->metadata();
}

}  // namespace facet
