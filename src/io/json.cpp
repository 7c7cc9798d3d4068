#include "io/json.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "io/file.h"
#include "io/json_scanner.h"
#include "io/json_store.h"

namespace facet {

namespace detail {

const std::vector<uint32_t>* JsonStore::sorted_of(const JsonNode& object) const {
  if (object.count < kManyMembers) return nullptr;
  const auto found = std::lower_bound(
      sorted_members.begin(), sorted_members.end(), object.payload,
      [](const auto& entry, uint64_t first_child) { return entry.first < first_child; });
  return &found->second;
}

int64_t JsonStore::find_member(const JsonNode& object, std::string_view key) const {
  if (const std::vector<uint32_t>* sorted = sorted_of(object)) {
    const auto found = std::lower_bound(
        sorted->begin(), sorted->end(), key,
        [&](uint32_t member, std::string_view wanted) { return key_of(object, member) < wanted; });
    return found != sorted->end() && key_of(object, *found) == key ? int64_t{*found} : -1;
  }
  for (uint32_t i = 0; i < object.count; ++i)
    if (key_of(object, i) == key) return i;
  return -1;
}

// Only errors need a path, so values do not store their parents: they are searched here.
std::string JsonStore::path_to(int64_t index) const {
  std::string path;
  auto wanted = static_cast<uint64_t>(index);
  for (size_t i = static_cast<size_t>(index); i < nodes.size(); ++i) {
    const JsonNode& parent = nodes[i];
    if (parent.kind == JsonKind::kArray && wanted - parent.payload < parent.count) {
      path = fmt::format("[{}]", wanted - parent.payload) + path;
    } else if (parent.kind == JsonKind::kObject && wanted - parent.payload < 2ull * parent.count) {
      const auto member = static_cast<int64_t>((wanted - parent.payload) / 2);
      path = fmt::format(".{}", key_of(parent, member)) + path;
    } else {
      continue;
    }
    wanted = i;
  }
  return path.starts_with(".") ? path.substr(1) : path;
}

const JsonDuplicate* JsonStore::any_duplicate(const JsonNode& object) const {
  if (duplicates.empty() || object.count < 2) return nullptr;
  const auto found = std::lower_bound(duplicates.begin(), duplicates.end(), object.payload,
                                      [](const JsonDuplicate& duplicate, uint64_t first_child) {
                                        return duplicate.first_child < first_child;
                                      });
  return found != duplicates.end() && found->first_child == object.payload ? &*found : nullptr;
}

const JsonDuplicate* JsonStore::duplicate_of(const JsonNode& object, std::string_view key) const {
  const JsonDuplicate* const end = duplicates.data() + duplicates.size();
  const JsonDuplicate* at = any_duplicate(object);
  for (; at != nullptr && at != end && at->first_child == object.payload; ++at)
    if (key_of(object, at->member) == key) return at;
  return nullptr;
}

std::string JsonStore::words_for(const JsonNode& object, const JsonDuplicate& duplicate) const {
  return fmt::format("the key \"{}\" occurs twice, again in line {}, column {}",
                     printable(key_of(object, duplicate.member).substr(0, 200)), duplicate.line,
                     duplicate.column);
}

}  // namespace detail

namespace {

using detail::JsonDuplicate;
using detail::JsonNode;
using detail::JsonStore;

const char* words_for(JsonKind kind) {
  switch (kind) {
    case JsonKind::kNull: return "null";
    case JsonKind::kBool: return "a boolean";
    case JsonKind::kInteger: return "an integer";
    case JsonKind::kReal: return "a real number";
    case JsonKind::kString: return "a string";
    case JsonKind::kArray: return "an array";
    case JsonKind::kObject: return "an object";
  }
  return "?";
}

}  // namespace

// ---- JsonValue ----

JsonKind JsonValue::kind() const { return store_->node(node_).kind; }

std::string JsonValue::where() const {
  const std::string path = store_->path_to(node_);
  return path.empty() ? store_->name : fmt::format("{}: {}", store_->name, path);
}

void JsonValue::reject(const std::string& message) const {
  fail(store_->code, "{}: {}", where(), message);
}

void JsonValue::wrong_kind(const char* expected) const {
  reject(fmt::format("expected {}, found {}", expected, words_for(kind())));
}

bool JsonValue::as_bool() const {
  if (kind() != JsonKind::kBool) wrong_kind("true or false");
  return store_->node(node_).payload != 0;
}

int64_t JsonValue::as_int() const {
  constexpr double kTooLarge = 9223372036854775808.0;  // 2^63
  if (kind() == JsonKind::kReal && !(std::abs(real_as_written()) < kTooLarge))
    reject(fmt::format("expected an integer, found {}, which is too large", real_as_written()));
  if (!is_integer()) wrong_kind("an integer");
  return std::bit_cast<int64_t>(store_->node(node_).payload);
}

double JsonValue::as_double() const {
  if (is_integer()) return static_cast<double>(as_int());
  if (kind() != JsonKind::kReal) wrong_kind("a number");
  const double number = real_as_written();
  if (!std::isfinite(number)) reject(fmt::format("expected a finite number, found {}", number));
  return number;
}

double JsonValue::real_as_written() const {
  return std::bit_cast<double>(store_->node(node_).payload);
}

std::string_view JsonValue::as_string() const {
  if (!is_string()) wrong_kind("a string");
  return store_->string_of(store_->node(node_));
}

int64_t JsonValue::size() const {
  if (!is_array() && !is_object()) wrong_kind("an array or an object");
  return store_->node(node_).count;
}

JsonValue JsonValue::at(int64_t index) const {
  if (!is_array()) wrong_kind("an array");
  if (index < 0 || index >= size())
    reject(fmt::format("element {} does not exist, there are {}", index, size()));
  return JsonValue(store_, static_cast<int64_t>(store_->node(node_).payload) + index);
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  if (!is_object()) wrong_kind("an object");
  const JsonNode& object = store_->node(node_);
  const int64_t member = store_->find_member(object, key);
  if (member < 0) return std::nullopt;
  if (const JsonDuplicate* duplicate = store_->duplicate_of(object, key))
    reject(store_->words_for(object, *duplicate) + "; remove one of them");
  return JsonValue(store_, static_cast<int64_t>(object.payload) + 2 * member + 1);
}

JsonValue JsonValue::at(std::string_view key) const {
  const std::optional<JsonValue> value = find(key);
  if (!value) reject(fmt::format("the key \"{}\" is missing", key));
  return *value;
}

std::pair<std::string_view, JsonValue> JsonValue::member(int64_t index) const {
  if (!is_object()) wrong_kind("an object");
  const JsonNode& object = store_->node(node_);
  if (const JsonDuplicate* duplicate = store_->any_duplicate(object))
    reject(store_->words_for(object, *duplicate) + "; remove one of them");
  return member_as_written(index);
}

std::pair<std::string_view, JsonValue> JsonValue::member_as_written(int64_t index) const {
  ASSERT(index >= 0 && index < size(), "member {} of {}", index, size());
  const JsonNode& object = store_->node(node_);
  return {store_->key_of(object, index),
          JsonValue(store_, static_cast<int64_t>(object.payload) + 2 * index + 1)};
}

bool JsonValue::get_bool(std::string_view key, bool fallback) const {
  const std::optional<JsonValue> value = find(key);
  return value && !value->is_null() ? value->as_bool() : fallback;
}

int64_t JsonValue::get_int(std::string_view key, int64_t fallback) const {
  const std::optional<JsonValue> value = find(key);
  return value && !value->is_null() ? value->as_int() : fallback;
}

double JsonValue::get_double(std::string_view key, double fallback) const {
  const std::optional<JsonValue> value = find(key);
  return value && !value->is_null() ? value->as_double() : fallback;
}

std::string JsonValue::get_string(std::string_view key, std::string_view fallback) const {
  const std::optional<JsonValue> value = find(key);
  return std::string(value && !value->is_null() ? value->as_string() : fallback);
}

JsonValue::Iterator JsonValue::begin() const {
  if (!is_array()) wrong_kind("an array");
  return {store_, static_cast<int64_t>(store_->node(node_).payload)};
}

JsonValue::Iterator JsonValue::end() const {
  const JsonNode& array = store_->node(node_);
  return {store_, static_cast<int64_t>(array.payload + array.count)};
}

// ---- JsonDocument ----

JsonDocument::JsonDocument(std::unique_ptr<JsonStore> store) : store_(std::move(store)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

JsonDocument JsonDocument::read(const std::string& path, ExitCode code, int64_t max_bytes) {
  return parse(read_file(path, max_bytes), path, code);
}

JsonDocument JsonDocument::read_config(const std::string& path) {
  return read(path, ExitCode::kConfig, kMaxConfigBytes);
}

JsonDocument JsonDocument::parse(std::string_view text, const std::string& name, ExitCode code) {
  return JsonDocument(detail::parse_json(text, name, code));
}

JsonDocument JsonDocument::parse_any_bytes(std::string_view text, const std::string& name) {
  return JsonDocument(detail::parse_json_any_bytes(text, name));
}

JsonValue JsonDocument::root() const {
  return JsonValue(store_.get(), static_cast<int64_t>(store_->nodes.size()) - 1);
}

std::string JsonDocument::first_duplicate() const {
  if (store_->duplicates.empty()) return "";
  const JsonDuplicate& first = store_->duplicates.front();
  int64_t object = 0;
  while (store_->any_duplicate(store_->node(object)) != &first ||
         store_->node(object).kind != JsonKind::kObject)
    ++object;
  return fmt::format("{}: {}", JsonValue(store_.get(), object).where(),
                     store_->words_for(store_->node(object), first));
}

int64_t JsonDocument::memory_bytes() const {
  size_t bytes = store_->nodes.capacity() * sizeof(JsonNode) + store_->text.capacity();
  for (const auto& entry : store_->sorted_members)
    bytes += sizeof(entry) + entry.second.capacity() * sizeof(uint32_t);
  return static_cast<int64_t>(bytes);
}

}  // namespace facet
