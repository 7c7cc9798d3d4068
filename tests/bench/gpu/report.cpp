#include "tests/bench/gpu/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "io/json.h"

namespace facet::bench {
namespace {

constexpr size_t kNameWidth = 37, kNumberWidth = 10;

std::string text_of(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* count = std::get_if<int64_t>(&cell)) return std::to_string(*count);
  const double number = std::get<double>(cell);
  return std::abs(number) >= 1000 ? fmt::format("{:.0f}", number) : fmt::format("{:.4g}", number);
}

}  // namespace

Report::Report(const std::string& json_path) : json_path_(json_path) {
  if (json_path.empty()) return;
  json_ = std::fopen(json_path.c_str(), "a");
  CHECK(json_ != nullptr, ExitCode::kIo, "{} cannot be written: {}", json_path,
        std::strerror(errno));
}

Report::~Report() {
  if (json_ != nullptr) std::fclose(json_);
}

void Report::row(const std::string& section, const Row& row) {
  if (section != section_) {
    fmt::print("\n{}\n", section);
    print(row, true);
  }
  section_ = section;
  print(row, false);
  std::fflush(stdout);
  if (json_ != nullptr) write_json(section, row);
}

void Report::print(const Row& row, bool names) const {
  std::string line;
  for (size_t i = 0; i < row.size(); ++i) {
    const std::string text = names ? row[i].first : text_of(row[i].second);
    const bool is_text = std::holds_alternative<std::string>(row[i].second);
    if (i == 0)
      line += fmt::format("{:<{}}", text, kNameWidth);
    else if (is_text)
      line += "  " + text;
    else
      line += fmt::format(" {:>{}}", text, std::max(kNumberWidth, row[i].first.size()));
  }
  fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
}

namespace {

void write(JsonWriter& json, const Cell& cell) {
  const auto* number = std::get_if<double>(&cell);
  if (number != nullptr && !std::isfinite(*number)) return json.null();
  std::visit([&](const auto& value) { json.value(value); }, cell);
}

// Within its texts JSON has no line breaks.
std::string on_one_line(const std::string& json) {
  std::string line;
  for (size_t i = 0; i < json.size(); ++i) {
    if (json[i] != '\n') line += json[i];
    while (json[i] == '\n' && i + 1 < json.size() && json[i + 1] == ' ') ++i;
  }
  return line + '\n';
}

}  // namespace

void Report::write_json(const std::string& section, const Row& row) {
  JsonWriter json;
  json.begin_object();
  json.key("section").value(section);
  for (const auto& [name, cell] : row) write(json.key(name), cell);
  json.end_object();
  const std::string text = on_one_line(json.take());
  const bool written = std::fputs(text.c_str(), json_) >= 0 && std::fflush(json_) == 0;
  CHECK(written, ExitCode::kIo, "{}: {}", json_path_, std::strerror(errno));
}

}  // namespace facet::bench
