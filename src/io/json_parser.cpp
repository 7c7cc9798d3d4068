#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/utf8.h"
#include "io/json_store.h"

namespace facet::detail {

namespace {

// Bytes that are not printable are shown as <XX>.
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

// The parser refuses bytes that are not UTF-8. A byte 0xHH that is not UTF-8 passes through it as
// the character U+10FFHH, from the end of the last private-use plane, which no text uses.
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

// Builds a JsonStore from the parser's events. Values wait in `pending_` until their container is
// closed, and are then stored contiguously.
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
    // The library's message: "[json.exception.KIND] parse error at line L, column C: reason".
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
            "{}: the key \"{}\" occurs twice in one object; remove one of them", store_.name,
            printable(key.substr(0, 200)));
    }
    if (object.count >= kManyMembers) store_.sorted_members.emplace_back(object.payload, order);
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

std::unique_ptr<JsonStore> parse_json(std::string_view text, const std::string& name,
                                      ExitCode code) {
  return build_store(text, name, code, ForeignBytes::kNone);
}

std::unique_ptr<JsonStore> parse_json_any_bytes(const std::string& text, const std::string& name) {
  if (is_utf8(text)) return parse_json(text, name, ExitCode::kBadData);
  return build_store(hide_foreign_bytes(text), name, ExitCode::kBadData, ForeignBytes::kHidden);
}

}  // namespace facet::detail
