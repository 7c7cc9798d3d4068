// JSON: a document is parsed once into flat arrays (16 bytes per value, all text in one pool), so
// that annotation files with millions of records take about their own size in memory. A JsonValue
// is a cheap view into its document. Every error names the file and the place in it:
//   "config.json: rope_scaling.factor: expected a number, found a string"
//
// A text is read as Python's json reads it (io/json_scanner.h), so that a value which nobody uses
// does no harm: NaN, a number beyond a double, half a surrogate pair, a key that occurs twice. Who
// asks for the number or the key gets an error. Refused: nesting deeper than about Python's limit,
// files above the size limit, invalid UTF-8, anything after the document.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"

namespace facet {

enum class JsonKind : uint8_t { kNull, kBool, kInteger, kReal, kString, kArray, kObject };

namespace detail {
struct JsonStore;
}

// A view of one value, valid for the lifetime of its document.
class JsonValue {
 public:
  JsonKind kind() const;
  bool is_null() const { return kind() == JsonKind::kNull; }
  bool is_string() const { return kind() == JsonKind::kString; }
  bool is_integer() const { return kind() == JsonKind::kInteger; }
  bool is_number() const { return is_integer() || kind() == JsonKind::kReal; }
  bool is_array() const { return kind() == JsonKind::kArray; }
  bool is_object() const { return kind() == JsonKind::kObject; }

  // Throw if the value is of another kind. Integers are numbers too; a number written with a
  // fraction or an exponent, or beyond 64 bits, is never an integer. as_double() is finite.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;
  std::string_view as_string() const;

  // Elements of an array or members of an object. A key that is asked for must not occur twice; to
  // ask for members by index is to ask for all.
  int64_t size() const;
  JsonValue at(int64_t index) const;         // element of an array
  JsonValue at(std::string_view key) const;  // member of an object; throws if missing
  std::optional<JsonValue> find(std::string_view key) const;           // nothing if missing
  std::pair<std::string_view, JsonValue> member(int64_t index) const;  // in file order
  // For copies: also of an object in which a key occurs twice.
  std::pair<std::string_view, JsonValue> member_as_written(int64_t index) const;

  // The member's value, or the fallback if the key is missing or null.
  bool get_bool(std::string_view key, bool fallback) const;
  int64_t get_int(std::string_view key, int64_t fallback) const;
  double get_double(std::string_view key, double fallback) const;
  std::string get_string(std::string_view key, std::string_view fallback) const;

  // "file: a.b[3]", and an Error of the document's exit code: "file: a.b[3]: message".
  std::string where() const;
  [[noreturn]] void reject(const std::string& message) const;

  // for (JsonValue record : array) ...
  class Iterator {
   public:
    Iterator(const detail::JsonStore* store, int64_t node) : store_(store), node_(node) {}
    JsonValue operator*() const { return JsonValue(store_, node_); }
    Iterator& operator++() {
      ++node_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return node_ != other.node_; }

   private:
    const detail::JsonStore* store_;
    int64_t node_;
  };
  Iterator begin() const;  // elements of an array
  Iterator end() const;

 private:
  friend class JsonDocument;
  friend class JsonWriter;
  friend struct detail::JsonStore;
  JsonValue(const detail::JsonStore* store, int64_t node) : store_(store), node_(node) {}
  [[noreturn]] void wrong_kind(const char* expected) const;
  double real_as_written() const;  // may be infinite or no number

  const detail::JsonStore* store_;
  int64_t node_;
};

class JsonDocument {
 public:
  static constexpr int kMaxDepth = 900;
  // The sizes up to which files are read: of data, and of configuration.
  static constexpr int64_t kMaxDataBytes = int64_t{1} << 31;
  static constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;

  // `code`: the exit code of content errors (kConfig for configuration files).
  static JsonDocument read(const std::string& path, ExitCode code = ExitCode::kBadData,
                           int64_t max_bytes = kMaxDataBytes);
  // The same of a configuration file.
  static JsonDocument read_config(const std::string& path);
  // `name` replaces the path in messages.
  static JsonDocument parse(std::string_view text, const std::string& name,
                            ExitCode code = ExitCode::kBadData);
  // As parse(), but bytes that are not UTF-8 are no error: strings hold them unchanged, so that
  // only the records with such bytes are lost, not the whole file.
  static JsonDocument parse_any_bytes(std::string_view text, const std::string& name);
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();

  JsonValue root() const;
  // "FILE: PLACE: the key "a" occurs twice, again in line 3, column 7"; empty if none does.
  std::string first_duplicate() const;
  int64_t memory_bytes() const;

 private:
  explicit JsonDocument(std::unique_ptr<detail::JsonStore> store);
  std::unique_ptr<detail::JsonStore> store_;
};

// The text as a JSON string, in quotation marks: valid JSON, and nothing in it that isn't printable
// (base/printable.h). A byte that is not UTF-8 becomes the character with that code.
std::string json_string(std::string_view text);

enum class JsonLayout : uint8_t {
  kIndented,  // by two spaces
  kOneLine,   // a record of a JSON Lines file
};

// Writes one JSON text in the order of the calls:
//   JsonWriter w; w.begin_object(); w.key("a").value(int64_t{1}); w.end_object(); w.take();
// Wrong nesting is a bug (ASSERT).
class JsonWriter {
 public:
  explicit JsonWriter(JsonLayout layout = JsonLayout::kIndented) : layout_(layout) {}

  void begin_object();
  void end_object();
  void begin_array();
  void end_array();
  JsonWriter& key(std::string_view name);
  void value(std::string_view text);
  void value(const char* text) { value(std::string_view(text)); }
  void value(int64_t number);
  void value(double number);  // the shortest text that reads back exactly; must be finite
  void value(bool flag);
  void null();
  void value(const JsonValue& copied);  // a whole value of a document, as it was written

  std::string take();  // the finished text, ending in a newline

 private:
  void copy_real(double number);
  void separate();
  void new_line();
  void next_element();
  void open(char bracket);
  void close(char bracket);

  JsonLayout layout_;
  std::string text_;
  std::vector<char> open_;  // closing brackets to come
  bool first_ = true;       // no element yet on this level
  bool after_key_ = false;
};

}  // namespace facet
