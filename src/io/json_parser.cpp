#include <algorithm>
#include <bit>
#include <numeric>

#include "base/utf8.h"
#include "io/content_kind.h"
#include "io/json_scanner.h"
#include "io/json_store.h"

namespace facet::detail {

namespace {

// Reads a text into a JsonStore. Values wait in `pending_` until their container is closed, and are
// then stored contiguously. Without recursion: the containers that are open stand in a list.
class Parser {
 public:
  Parser(JsonStore& store, std::string_view text) : store_(store), text_(text), scanner_(text) {}

  void run() {
    try {
      take_value();
      while (!open_.empty()) take_element();
      scanner_.skip_spaces();
      if (!scanner_.at_end()) refuse_second_value();
    } catch (const JsonSyntaxError& error) {
      fail_at(error.position, error.reason);
    }
    locate_duplicates();
    store_.nodes.push_back(pending_.front().node);
    store_.nodes.shrink_to_fit();
    store_.text.shrink_to_fit();
  }

  [[noreturn]] void fail_at(size_t position, const std::string& reason) const;

 private:
  struct Pending {
    JsonNode node;
    size_t position = 0;  // in the text
  };
  struct Open {
    JsonKind kind;
    size_t first;  // in pending_
  };

  void add(JsonKind kind, uint32_t count, uint64_t payload) {
    pending_.push_back({{kind, count, payload}, scanner_.position()});
  }
  void add_real(double number) { add(JsonKind::kReal, 0, std::bit_cast<uint64_t>(number)); }

  void take_value();
  void take_number();
  void take_word(std::string_view word, JsonKind kind, bool flag);
  void take_string();
  void take_element();
  void open(JsonKind kind);
  void close();
  void check_keys(const JsonNode& object, size_t first);
  void locate_duplicates();
  [[noreturn]] void refuse_second_value() const;
  std::string place() const;

  JsonStore& store_;
  std::string_view text_;
  JsonScanner scanner_;
  std::vector<Pending> pending_;
  std::vector<Open> open_;
  std::vector<uint32_t> order_;             // scratch of check_keys
  std::vector<size_t> duplicate_position_;  // of each of store_.duplicates, in the text
};

void Parser::take_value() {
  scanner_.skip_spaces();
  switch (scanner_.peek()) {
    case '{': return open(JsonKind::kObject);
    case '[': return open(JsonKind::kArray);
    case '"': return take_string();
    case 't': return take_word("true", JsonKind::kBool, true);
    case 'f': return take_word("false", JsonKind::kBool, false);
    case 'n': return take_word("null", JsonKind::kNull, false);
    default: return take_number();
  }
}

void Parser::take_number() {
  constexpr std::string_view kBegins = "-0123456789NI";
  if (scanner_.at_end() || kBegins.find(scanner_.peek()) == kBegins.npos)
    scanner_.fail_expecting("a value");
  const JsonNumber number = scanner_.take_number();
  if (!number.is_integer) return add_real(number.real);
  add(JsonKind::kInteger, 0, std::bit_cast<uint64_t>(number.integer));
}

void Parser::take_word(std::string_view word, JsonKind kind, bool flag) {
  scanner_.take_word(word);
  add(kind, 0, flag ? 1 : 0);
}

void Parser::take_string() {
  const size_t position = scanner_.position();
  const uint64_t begin = store_.text.size();
  scanner_.take_string(store_.text);
  const uint64_t bytes = store_.text.size() - begin;
  CHECK(bytes <= UINT32_MAX, store_.code, "{}: a string of {} bytes is too long", store_.name,
        bytes);
  pending_.push_back({{JsonKind::kString, static_cast<uint32_t>(bytes), begin}, position});
}

// The next element or member of the innermost container, or its end.
void Parser::take_element() {
  const bool object = open_.back().kind == JsonKind::kObject;
  const bool first = pending_.size() == open_.back().first;
  scanner_.skip_spaces();
  if (scanner_.take(object ? '}' : ']')) return close();
  if (!first && !scanner_.take(',')) scanner_.fail_expecting(object ? "',' or '}'" : "',' or ']'");
  if (object) {
    scanner_.skip_spaces();
    if (scanner_.peek() != '"') scanner_.fail_expecting("a key in double quotes");
    take_string();
    scanner_.skip_spaces();
    if (!scanner_.take(':')) scanner_.fail_expecting("':' after a key");
  }
  take_value();
}

void Parser::open(JsonKind kind) {
  if (open_.size() == JsonDocument::kMaxDepth)
    throw JsonSyntaxError{scanner_.position(),
                          fmt::format("nested deeper than {} levels; is it the right file?",
                                      JsonDocument::kMaxDepth)};
  scanner_.take(scanner_.peek());
  open_.push_back({kind, pending_.size()});
}

void Parser::close() {
  const Open container = open_.back();
  const auto first = pending_.begin() + static_cast<std::ptrdiff_t>(container.first);
  const size_t children = pending_.size() - container.first;
  const size_t count = container.kind == JsonKind::kObject ? children / 2 : children;
  CHECK(count <= UINT32_MAX / 2, store_.code, "{}: {} elements in one array or object", store_.name,
        count);
  const JsonNode node{container.kind, static_cast<uint32_t>(count), store_.nodes.size()};
  std::transform(first, pending_.end(), std::back_inserter(store_.nodes),
                 [](const Pending& pending) { return pending.node; });
  if (container.kind == JsonKind::kObject) check_keys(node, container.first);
  pending_.resize(container.first);
  open_.pop_back();
  add(node.kind, node.count, node.payload);
}

// `first`: of the object's children in pending_.
void Parser::check_keys(const JsonNode& object, size_t first) {
  std::vector<uint32_t>& order = order_;
  order.resize(object.count);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return store_.key_of(object, a) < store_.key_of(object, b);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    if (store_.key_of(object, order[i]) != store_.key_of(object, order[i - 1])) continue;
    store_.duplicates.push_back({object.payload, order[i], 0, 0});
    duplicate_position_.push_back(pending_[first + 2 * order[i]].position);
  }
  if (object.count >= kManyMembers) store_.sorted_members.emplace_back(object.payload, order);
}

// Lines are counted in one pass over the text.
void Parser::locate_duplicates() {
  std::vector<size_t> order(duplicate_position_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return duplicate_position_[a] < duplicate_position_[b]; });
  int64_t line = 1;
  size_t at = 0, line_begin = 0;
  for (const size_t i : order) {
    for (; at < duplicate_position_[i]; ++at)
      if (text_[at] == '\n') ++line, line_begin = at + 1;
    store_.duplicates[i].line = line;
    store_.duplicates[i].column = static_cast<int64_t>(at - line_begin) + 1;
  }
}

// The document is complete and something follows.
void Parser::refuse_second_value() const {
  const char next = scanner_.peek();
  if ((next == '{' || next == '[') && next == text_[text_.find_first_of("{[")]) {
    const std::string_view before = text_.substr(0, scanner_.position());
    fail(store_.code,
         "{}: JSON lines: a second value begins in line {}; expected one array or object for the "
         "whole file (jq -s . FILE makes an array of the lines)",
         store_.name, 1 + std::count(before.begin(), before.end(), '\n'));
  }
  scanner_.fail_expecting("the end of the text");
}

// Where the parser stands in the document: "[3].conversations[0]".
std::string Parser::place() const {
  std::string path;
  for (size_t i = 0; i < open_.size(); ++i) {
    const size_t end = i + 1 < open_.size() ? open_[i + 1].first : pending_.size();
    const size_t children = end - open_[i].first;
    if (open_[i].kind == JsonKind::kArray) {
      path += fmt::format("[{}]", children);
    } else if (children % 2 == 1) {
      path += (path.empty() ? "" : ".") + printable(store_.string_of(pending_[end - 1].node));
    }
  }
  return path;
}

void Parser::fail_at(size_t position, const std::string& reason) const {
  if (const auto kind = content_kind(text_); kind != ContentKind::kUnknown &&
                                             kind != ContentKind::kJson &&
                                             kind != ContentKind::kJsonLines)
    fail(store_.code, "{}: {}", store_.name, not_what_was_expected(text_, "JSON"));
  const std::string_view before = text_.substr(0, position);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t line_begin = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
  const std::string in = place();
  fail(store_.code, "{}: not valid JSON at line {}, column {} (byte {}){}{}: {}", store_.name, line,
       position - line_begin + 1, position, in.empty() ? "" : ", in ", in, reason);
}

std::unique_ptr<JsonStore> new_store(const std::string& name, ExitCode code) {
  auto store = std::make_unique<JsonStore>();
  store->name = name;
  store->code = code;
  return store;
}

}  // namespace

std::unique_ptr<JsonStore> parse_json(std::string_view text, const std::string& name,
                                      ExitCode code) {
  auto store = new_store(name, code);
  Parser parser(*store, text);
  size_t valid = 0;
  for (size_t length = 1; length > 0; valid += length) length = utf8_length(text.substr(valid));
  if (valid < text.size())
    parser.fail_at(valid,
                   fmt::format("the byte {} is not UTF-8", printable(text.substr(valid, 1))));
  parser.run();
  return store;
}

std::unique_ptr<JsonStore> parse_json_any_bytes(std::string_view text, const std::string& name) {
  auto store = new_store(name, ExitCode::kBadData);
  Parser(*store, text).run();
  return store;
}

}  // namespace facet::detail
