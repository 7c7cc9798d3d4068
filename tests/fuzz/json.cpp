// JSON text, read strictly and as an annotation file, whose bytes need not be UTF-8. What the
// strict reader accepts is written again, and must then read back to the same text.
#include "io/json.h"
#include "base/check.h"
#include "common/target.h"

namespace facet {
namespace {

// Reads every value in its own way and in a wrong one.
void visit(const JsonValue& value) {
  if (value.is_array()) {
    for (const JsonValue element : value) visit(element);
  } else if (value.is_object()) {
    for (int64_t i = 0; i < value.size(); ++i) {
      const auto [name, member] = value.member(i);
      fuzz::require(value.find(name).has_value(), "a member is not found by its name");
      visit(member);
    }
  } else if (value.is_string()) {
    fuzz::require(value.as_string().size() < (size_t{1} << 30), "a string without end");
  }
  fuzz::may_refuse([&] { value.as_int(); });
  fuzz::may_refuse([&] { value.as_double(); });
  fuzz::may_refuse([&] { value.at("a"); });
}

std::string written(const JsonValue& value) {
  JsonWriter writer;
  writer.value(value);
  return writer.take();
}

void write_and_read_back(const std::string& text) {
  const std::string once = written(JsonDocument::parse(text, "input").root());
  const std::string twice = written(JsonDocument::parse(once, "written").root());
  fuzz::require(once == twice, "written and read back, JSON has changed");
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string text(fuzz::text_of(data, size));
  fuzz::may_refuse([&] { visit(JsonDocument::parse(text, "input").root()); });
  fuzz::may_refuse([&] { visit(JsonDocument::parse_any_bytes(text, "input").root()); });
  return fuzz::may_refuse([&] { write_and_read_back(text); });
}
