#include "checkpoint/manifest.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "base/check.h"
#include "base/checked_math.h"
#include "io/hash.h"
#include "io/json.h"

namespace facet {

namespace {

constexpr std::string_view kFormat = "facet checkpoint";
constexpr int64_t kVersion = 1;
constexpr const char* kProductChoices = "product_choices";
constexpr const char* kOwnAlphas = "own_alphas";
// The text ends with `,\n  "xxh3_128": "`, 32 digits, `"\n}\n`.
constexpr std::string_view kSealBegin = ",\n  \"xxh3_128\": \"";
constexpr std::string_view kSealEnd = "\"\n}\n";
constexpr std::string_view kObjectEnd = "\n}\n";

std::string sealed(std::string text) {
  ASSERT(text.ends_with(kObjectEnd), "a manifest without its end");
  text.resize(text.size() - kObjectEnd.size());
  const std::string hash = hash_of(text.data(), static_cast<int64_t>(text.size()));
  return text.append(kSealBegin).append(hash).append(kSealEnd);
}

bool seal_holds(std::string_view text) {
  constexpr size_t kHashDigits = 32;
  constexpr size_t kSeal = kSealBegin.size() + kHashDigits + kSealEnd.size();
  if (text.size() < kSeal) return false;
  const std::string_view content = text.substr(0, text.size() - kSeal);
  const std::string hash = hash_of(content.data(), static_cast<int64_t>(content.size()));
  return text.substr(content.size()) == std::string(kSealBegin) + hash + std::string(kSealEnd);
}

void write_integers(JsonWriter& json, const std::vector<int64_t>& numbers) {
  json.begin_array();
  for (const int64_t number : numbers) json.value(number);
  json.end_array();
}

struct FieldWriter {
  JsonWriter& json;
  void operator()(const char* name, int64_t number) { json.key(name).value(number); }
  void operator()(const char* name, double number) { json.key(name).value(number); }
  void operator()(const char* name, const std::string& text) { json.key(name).value(text); }
  void operator()(const char* name, const std::vector<int64_t>& numbers) {
    write_integers(json.key(name), numbers);
  }
};

std::vector<int64_t> integers_of(const JsonValue& array) {
  std::vector<int64_t> numbers;
  for (const JsonValue number : array) numbers.push_back(number.as_int());
  return numbers;
}

struct FieldReader {
  const JsonValue& json;
  void operator()(const char* name, int64_t& number) { number = json.at(name).as_int(); }
  void operator()(const char* name, double& number) { number = json.at(name).as_double(); }
  void operator()(const char* name, std::string& text) { text = json.at(name).as_string(); }
  void operator()(const char* name, std::vector<int64_t>& numbers) {
    numbers = integers_of(json.at(name));
  }
};

void write_array(JsonWriter& json, const StoredArray& array) {
  json.begin_object();
  json.key("name").value(array.name);
  json.key("group").value(array.group);
  write_integers(json.key("shape"), array.shape);
  json.key("offset").value(array.offset);
  json.key("ranges").begin_array();
  for (const StoredRange& range : array.ranges) {
    json.begin_object();
    json.key("begin").value(range.begin);
    json.key("count").value(range.count);
    json.key("xxh3_128").value(range.hash);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

// The state counts from 0; -1 stands for "never" where nothing else can.
struct FieldCheck {
  const JsonValue& json;
  void operator()(std::string_view name, int64_t number) {
    const bool may_be_never =
        name == "last_evaluation" || name == "best_step" || name == "bad_samples_epoch";
    if (number < (may_be_never ? -1 : 0)) json.at(name).reject(fmt::format("is {}", number));
  }
  void operator()(std::string_view name, double number) {
    if (!std::isfinite(number)) json.at(name).reject(fmt::format("is {}", number));
  }
  void operator()(std::string_view, const std::string&) {}
  void operator()(std::string_view name, const std::vector<int64_t>& numbers) {
    for (const int64_t number : numbers) (*this)(name, number);
  }
};

void check_state(const RunState& state, const JsonValue& json) {
  visit_fields(state, FieldCheck{json});
  if (state.ranks < 1) json.at("ranks").reject("is 0");
  if (std::ssize(state.bad_list_bytes) > state.ranks)
    json.at("bad_list_bytes").reject("has more entries than there were ranks");
}

void read_ranges(const JsonValue& json, StoredArray& array) {
  int64_t covered = 0;
  for (const JsonValue range : json) {
    const StoredRange read{range.at("begin").as_int(), range.at("count").as_int(),
                           std::string(range.at("xxh3_128").as_string())};
    if (read.begin != covered) range.reject("does not continue the range before it");
    if (!lies_within(read.begin, read.count, array.elements()))
      range.reject("does not lie in the array");
    covered += read.count;
    array.ranges.push_back(read);
  }
  if (covered != array.elements()) json.reject("do not cover the array");
}

StoredArray read_array(const JsonValue& json, int64_t file_bytes) {
  StoredArray array;
  array.name = json.at("name").as_string();
  array.group = json.at("group").as_string();
  array.shape = integers_of(json.at("shape"));
  array.offset = json.at("offset").as_int();
  const auto elements = checked_product(array.shape);
  const auto bytes = checked_product({elements.value_or(-1), int64_t{sizeof(float)}});
  if (!bytes || !lies_within(array.offset, *bytes, file_bytes))
    json.reject("does not lie in the file");
  read_ranges(json.at("ranges"), array);
  return array;
}

void check_overlap(const std::vector<StoredArray>& arrays, const JsonValue& json) {
  std::vector<const StoredArray*> by_offset;
  std::set<std::string_view> names;
  for (const StoredArray& array : arrays) {
    by_offset.push_back(&array);
    if (!names.insert(array.name).second) json.reject(fmt::format("{} is there twice", array.name));
  }
  std::sort(by_offset.begin(), by_offset.end(),
            [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i)
    if (by_offset[i]->offset < by_offset[i - 1]->offset + by_offset[i - 1]->bytes())
      json.reject(fmt::format("{} and {} overlap", by_offset[i - 1]->name, by_offset[i]->name));
}

}  // namespace

int64_t StoredArray::elements() const {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return elements;
}

std::string Manifest::text() const {
  JsonWriter json;
  json.begin_object();
  json.key("format").value(kFormat);
  json.key("version").value(kVersion);
  json.key("state").begin_object();
  visit_fields(state, FieldWriter{json});
  if (!state.product_choices.empty()) json.key(kProductChoices).value(state.product_choices);
  if (state.own_alphas) json.key(kOwnAlphas).value(*state.own_alphas);
  json.end_object();
  json.key("file").value("state.h5");
  json.key("file_bytes").value(file_bytes);
  json.key("rest_xxh3_128").value(rest_hash);
  json.key("arrays").begin_array();
  for (const StoredArray& array : arrays) write_array(json, array);
  json.end_array();
  json.end_object();
  return sealed(json.take());
}

Manifest Manifest::parse(const std::string& text, const std::string& path) {
  CHECK(seal_holds(text), ExitCode::kBadData,
        "{}: damaged or cut off: its bytes do not have the hash at its end", path);
  const JsonDocument document = JsonDocument::parse(text, path);
  const JsonValue root = document.root();
  if (root.at("format").as_string() != kFormat) root.reject("is not of a facet checkpoint");
  if (root.at("version").as_int() != kVersion)
    root.reject(fmt::format("has version {}, this program reads {}", root.at("version").as_int(),
                            kVersion));
  Manifest manifest;
  const JsonValue state = root.at("state");
  visit_fields(manifest.state, FieldReader{state});
  check_state(manifest.state, state);
  manifest.state.product_choices = state.get_string(kProductChoices, "");
  if (const auto alphas = state.find(kOwnAlphas)) manifest.state.own_alphas = alphas->as_string();
  manifest.file_bytes = root.at("file_bytes").as_int();
  manifest.rest_hash = root.at("rest_xxh3_128").as_string();
  const JsonValue arrays = root.at("arrays");
  for (const JsonValue array : arrays)
    manifest.arrays.push_back(read_array(array, manifest.file_bytes));
  check_overlap(manifest.arrays, arrays);
  return manifest;
}

const StoredArray* Manifest::find(const std::string& name) const {
  const auto found = std::find_if(arrays.begin(), arrays.end(),
                                  [&](const StoredArray& array) { return array.name == name; });
  return found == arrays.end() ? nullptr : &*found;
}

}  // namespace facet
