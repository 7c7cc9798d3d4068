#include "io/json.h"

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "base/utf8.h"
#include "io/file.h"

namespace facet {

namespace detail {

struct JsonNode {
  JsonKind kind = JsonKind::kNull;
  uint32_t count = 0;    // bytes of a string, elements of an array, members of an object
  uint64_t payload = 0;  // bits of a number, begin in the text pool, first child
};
static_assert(sizeof(JsonNode) == 16);

// The children of an array lie side by side in `nodes`; of an object, key and value in turn. A
// container's children are complete before the container itself is placed, so every subtree lies
// before its root and the root of the document is the last node.
struct JsonStore {
  std::string name;
  ExitCode code = ExitCode::kBadData;
  std::vector<JsonNode> nodes;
  std::string text;
  // For objects with many members: their numbers sorted by key, found by the first child.
  std::vector<std::pair<uint64_t, std::vector<uint32_t>>> sorted_members;

  const JsonNode& node(int64_t index) const { return nodes[static_cast<size_t>(index)]; }
  std::string_view string_of(const JsonNode& node) const {
    return std::string_view(text).substr(node.payload, node.count);
  }
  std::string_view key_of(const JsonNode& object, int64_t member) const {
    return string_of(nodes[object.payload + 2 * static_cast<uint64_t>(member)]);
  }
  const std::vector<uint32_t>* sorted_of(const JsonNode& object) const;
  int64_t find_member(const JsonNode& object, std::string_view key) const;  // -1: none
  std::string path_to(int64_t index) const;
};

namespace {
// Below this a plain search along the members is quicker than a sorted table.
constexpr uint32_t kManyMembers = 24;
}  // namespace

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

// Only errors need a path, so values don't carry their parents: they are searched here.
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

}  // namespace detail

namespace {

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

// Bytes that are no text are shown as <XX>.
std::string printable(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += fmt::format("<{:02X}>", byte);
    }
  }
  return out;
}

// The parser refuses bytes that are not UTF-8. A foreign byte 0xHH goes through it as the character
// U+10FFHH, the end of the last private plane, which no text uses.
std::string hide_foreign_bytes(std::string_view text) {
  std::string hidden;
  hidden.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length > 0) {
      hidden += text.substr(0, length);
    } else {
      const auto byte = static_cast<unsigned char>(text[0]);
      hidden +=
          {'\xf4', '\x8f', byte < 0xc0 ? '\xbe' : '\xbf', static_cast<char>(0x80 | (byte & 0x3f))};
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return hidden;
}

void restore_foreign_bytes(std::string& text) {
  for (size_t at = text.find("\xf4\x8f"); at != text.npos; at = text.find("\xf4\x8f", at + 1)) {
    const auto third = static_cast<unsigned char>(text[at + 2]);
    if (third < 0xbe) continue;
    const auto low = static_cast<unsigned char>(text[at + 3]) & 0x3f;
    text.replace(at, 4, 1, static_cast<char>((third == 0xbe ? 0x80 : 0xc0) | low));
  }
}

enum class ForeignBytes : uint8_t { kNone, kHidden };

// Builds a JsonStore from the parser's events. Values wait on `pending_` until the container that
// holds them is closed, and are then moved side by side.
class StoreBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  StoreBuilder(JsonStore& store, std::string_view text, ForeignBytes foreign)
      : store_(store), text_(text), foreign_(foreign) {}

  bool null() override { return add(JsonKind::kNull, 0, 0); }
  bool boolean(bool flag) override { return add(JsonKind::kBool, 0, flag ? 1 : 0); }
  bool number_integer(number_integer_t number) override {
    return add(JsonKind::kInteger, 0, std::bit_cast<uint64_t>(int64_t{number}));
  }
  bool number_unsigned(number_unsigned_t number) override {
    if (number <= static_cast<uint64_t>(INT64_MAX)) return add(JsonKind::kInteger, 0, number);
    return add(JsonKind::kReal, 0, std::bit_cast<uint64_t>(static_cast<double>(number)));
  }
  bool number_float(number_float_t number, const string_t&) override {
    return add(JsonKind::kReal, 0, std::bit_cast<uint64_t>(double{number}));
  }
  bool string(string_t& text) override { return add_text(text); }
  bool key(string_t& text) override { return add_text(text); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(JsonKind::kObject); }
  bool start_array(size_t) override { return open(JsonKind::kArray); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  [[noreturn]] bool parse_error(size_t position, const std::string&,
                                const nlohmann::detail::exception& error) override {
    // The library's text: "[json.exception.KIND] parse error at line L, column C: reason".
    std::string_view reason = error.what();
    if (const size_t tag = reason.find("] "); tag != reason.npos) reason.remove_prefix(tag + 2);
    if (const size_t column = reason.find("column "); column != reason.npos)
      if (const size_t colon = reason.find(": ", column); colon != reason.npos)
        reason.remove_prefix(colon + 2);
    // `position` counts the bytes read, the offending one included.
    const size_t offset = position > 0 ? position - 1 : 0;
    const std::string_view before = text_.substr(0, std::min(offset, text_.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t line_begin = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
    facet::fail(store_.code, "{}: not valid JSON at line {}, column {} (byte {}): {}", store_.name,
                line, before.size() - line_begin + 1, offset, printable(reason));
  }

  void finish() {
    ASSERT(pending_.size() == 1, "{} values at the top of a JSON text", pending_.size());
    store_.nodes.push_back(pending_.front());
    store_.nodes.shrink_to_fit();
    store_.text.shrink_to_fit();
  }

 private:
  struct Open {
    JsonKind kind;
    size_t first;  // in pending_
  };

  bool add(JsonKind kind, uint32_t count, uint64_t payload) {
    pending_.push_back({kind, count, payload});
    return true;
  }

  bool add_text(std::string& text) {
    if (foreign_ == ForeignBytes::kHidden) restore_foreign_bytes(text);
    CHECK(text.size() <= UINT32_MAX, store_.code, "{}: a string of {} bytes is too long",
          store_.name, text.size());
    const uint64_t begin = store_.text.size();
    store_.text += text;
    return add(JsonKind::kString, static_cast<uint32_t>(text.size()), begin);
  }

  bool open(JsonKind kind) {
    CHECK(open_.size() < JsonDocument::kMaxDepth, store_.code,
          "{}: nested deeper than {} levels; is it the right file?", store_.name,
          JsonDocument::kMaxDepth);
    open_.push_back({kind, pending_.size()});
    return true;
  }

  bool close() {
    const Open container = open_.back();
    open_.pop_back();
    const size_t children = pending_.size() - container.first;
    const size_t count = container.kind == JsonKind::kObject ? children / 2 : children;
    CHECK(count <= UINT32_MAX / 2, store_.code, "{}: {} elements in one array or object",
          store_.name, count);
    const uint64_t first_child = store_.nodes.size();
    store_.nodes.insert(store_.nodes.end(),
                        pending_.begin() + static_cast<std::ptrdiff_t>(container.first),
                        pending_.end());
    pending_.resize(container.first);
    const JsonNode node{container.kind, static_cast<uint32_t>(count), first_child};
    if (container.kind == JsonKind::kObject) check_keys(node);
    pending_.push_back(node);
    return true;
  }

  void check_keys(const JsonNode& object) {
    std::vector<uint32_t>& order = order_;
    order.resize(object.count);
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      return store_.key_of(object, a) < store_.key_of(object, b);
    });
    for (size_t i = 1; i < order.size(); ++i) {
      const std::string_view key = store_.key_of(object, order[i]);
      CHECK(key != store_.key_of(object, order[i - 1]), store_.code,
            "{}: the key \"{}\" stands twice in one object; remove one of them", store_.name,
            printable(key.substr(0, 200)));
    }
    if (object.count >= detail::kManyMembers)
      store_.sorted_members.emplace_back(object.payload, order);
  }

  JsonStore& store_;
  std::string_view text_;
  ForeignBytes foreign_;
  std::vector<JsonNode> pending_;
  std::vector<Open> open_;
  std::vector<uint32_t> order_;  // scratch of check_keys
};

std::unique_ptr<JsonStore> build_store(std::string_view text, const std::string& name,
                                       ExitCode code, ForeignBytes foreign) {
  auto store = std::make_unique<JsonStore>();
  store->name = name;
  store->code = code;
  StoreBuilder builder(*store, text, foreign);
  const bool complete = nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &builder);
  ASSERT(complete, "{}: the parser stopped without an error", name);
  builder.finish();
  return store;
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
  if (!is_integer()) wrong_kind("an integer");
  return std::bit_cast<int64_t>(store_->node(node_).payload);
}

double JsonValue::as_double() const {
  if (is_integer()) return static_cast<double>(as_int());
  if (kind() != JsonKind::kReal) wrong_kind("a number");
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
    reject(fmt::format("element {} is wanted, there are {}", index, size()));
  return JsonValue(store_, static_cast<int64_t>(store_->node(node_).payload) + index);
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  if (!is_object()) wrong_kind("an object");
  const JsonNode& object = store_->node(node_);
  const int64_t member = store_->find_member(object, key);
  if (member < 0) return std::nullopt;
  return JsonValue(store_, static_cast<int64_t>(object.payload) + 2 * member + 1);
}

JsonValue JsonValue::at(std::string_view key) const {
  const std::optional<JsonValue> value = find(key);
  if (!value) reject(fmt::format("the key \"{}\" is missing", key));
  return *value;
}

std::pair<std::string_view, JsonValue> JsonValue::member(int64_t index) const {
  if (!is_object()) wrong_kind("an object");
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

JsonDocument JsonDocument::parse(std::string_view text, const std::string& name, ExitCode code) {
  return JsonDocument(build_store(text, name, code, ForeignBytes::kNone));
}

JsonDocument JsonDocument::parse_any_bytes(const std::string& text, const std::string& name) {
  if (is_utf8(text)) return parse(text, name);
  return JsonDocument(
      build_store(hide_foreign_bytes(text), name, ExitCode::kBadData, ForeignBytes::kHidden));
}

JsonValue JsonDocument::root() const {
  return JsonValue(store_.get(), static_cast<int64_t>(store_->nodes.size()) - 1);
}

int64_t JsonDocument::memory_bytes() const {
  size_t bytes = store_->nodes.capacity() * sizeof(JsonNode) + store_->text.capacity();
  for (const auto& entry : store_->sorted_members)
    bytes += sizeof(entry) + entry.second.capacity() * sizeof(uint32_t);
  return static_cast<int64_t>(bytes);
}

}  // namespace facet
