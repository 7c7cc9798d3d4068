#include "train/run_record.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/log.h"
#include "base/time_text.h"
#include "io/file.h"

namespace facet {

namespace {

constexpr const char* kFormat = "facet run record v1";
// Of a thousand starts of a thousand ranks.
constexpr int64_t kMaxBytes = int64_t{1} << 28;
constexpr int64_t kMostStarts = 1'000'000'000;

bool is_there(const std::string& path) {
  std::error_code ignored;  // a link that leads nowhere is there, too
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

std::vector<JsonValue> starts_of(const std::optional<JsonDocument>& record) {
  std::vector<JsonValue> starts;
  if (record)
    for (const JsonValue start : record->root().at("starts")) starts.push_back(start);
  return starts;
}

int64_t number_of(const JsonValue& start) { return start.at("start").as_int(); }

// Throws an Error unless the numbers rise.
void check_record(const JsonDocument& record) {
  const JsonValue format = record.root().at("format");
  if (format.as_string() != kFormat) format.reject("is no record of a run, or of a newer program");
  int64_t last = 0;
  for (const JsonValue start : record.root().at("starts")) {
    const int64_t number = number_of(start);
    if (number <= last || number > kMostStarts)
      start.reject(fmt::format("number {} after {}", number, last));
    last = number;
  }
}

std::optional<JsonDocument> read_record(const std::string& path) {
  if (!is_there(path)) return std::nullopt;
  JsonDocument record = JsonDocument::read(path, ExitCode::kBadData, kMaxBytes);
  check_record(record);
  return record;
}

// Start after start: all options, or those that changed with the value before and the new one.
OptionTexts options_of_last(const std::vector<JsonValue>& starts) {
  OptionTexts options;
  for (const JsonValue& start : starts) {
    if (const auto all = start.find("options"))
      for (int64_t i = 0; i < all->size(); ++i)
        options[std::string(all->member(i).first)] = all->member(i).second.as_string();
    if (const auto changed = start.find("options_changed"))
      for (int64_t i = 0; i < changed->size(); ++i)
        options[std::string(changed->member(i).first)] =
            changed->member(i).second.at(1).as_string();
  }
  return options;
}

// One more start, the last: what `write_last` writes is an object.
std::string record_text(const std::vector<JsonValue>& starts,
                        const RunRecord::WriteMembers& write_last) {
  JsonWriter writer;
  writer.begin_object();
  writer.key("format").value(kFormat);
  writer.key("starts").begin_array();
  for (const JsonValue& start : starts) writer.value(start);
  write_last(writer);
  writer.end_array();
  writer.end_object();
  return writer.take();
}

void write_end(JsonWriter& writer, const RunEnd& end) {
  writer.key("end").begin_object();
  writer.key("time").value(utc_text(std::chrono::system_clock::now()));
  writer.key("code").value(int64_t{static_cast<int>(end.code)});
  writer.key("reason").value(name_of(end.code));
  writer.key("step").value(end.step);
  writer.key("checkpoint").value(end.checkpoint);
  writer.end_object();
}

void write_with_end(JsonWriter& writer, const JsonValue& start, const RunEnd& end) {
  writer.begin_object();
  for (int64_t i = 0; i < start.size(); ++i) {
    const auto [name, value] = start.member_as_written(i);
    if (name == "end") continue;
    writer.key(name).value(value);
  }
  write_end(writer, end);
  writer.end_object();
}

}  // namespace

RunRecord::RunRecord(const std::string& output_dir, Earlier earlier)
    : path_(output_dir + "/run.json") {
  is_aside_ = earlier == Earlier::kIsKeptAside && is_there(path_);
  if (is_aside_) return;
  try {
    read();
  } catch (const Error& error) {
    warn("{}; it is kept as run.json.previous, and a new record of the run begins", error.what());
    is_aside_ = true;
    earlier_.reset();
    start_ = 1;
    last_options_.clear();
  }
}

RunRecord::RunRecord(const std::string& output_dir, int64_t start)
    : path_(output_dir + "/run.json"), start_(start) {}

void RunRecord::read() {
  earlier_ = read_record(path_);
  const std::vector<JsonValue> starts = starts_of(earlier_);
  last_options_ = options_of_last(starts);
  if (starts.empty()) return;
  start_ = number_of(starts.back()) + 1;
  if (start_ > kMostStarts) starts.back().reject("no start can follow");
}

bool RunRecord::keep_aside() const {
  if (!is_aside_ || std::rename(path_.c_str(), (path_ + ".previous").c_str()) == 0) return true;
  warn("{}: cannot be kept as run.json.previous: {}; this start is not recorded", path_,
       std::strerror(errno));
  return false;
}

void RunRecord::begin(const WriteMembers& write_members) {
  is_ours_ = keep_aside();
  if (!is_ours_) return;
  JsonWriter writer;
  writer.begin_object();
  writer.key("start").value(start_);
  write_members(writer);
  writer.end_object();
  own_ = JsonDocument::parse(writer.take(), path_);
  try {
    write_file(path_, record_text(starts_of(earlier_),
                                  [&](JsonWriter& last) { last.value(own_->root()); }));
  } catch (const Error& error) {
    warn("this start is not recorded: {}", error.what());
  }
  earlier_.reset();
}

// The file as it is now: somebody may have removed it with its directory.
void RunRecord::end(const RunEnd& end) const {
  if (!is_ours_) return;
  try {
    const std::optional<JsonDocument> record = read_record(path_);
    std::vector<JsonValue> starts = starts_of(record);
    const int64_t last = starts.empty() ? 0 : number_of(starts.back());
    const bool has_ours = last == start_;
    if (last > start_ || (!has_ours && !own_)) return;  // another run has begun, or is not known
    const JsonValue ours = has_ours ? starts.back() : own_->root();
    if (has_ours) starts.pop_back();
    write_file(path_,
               record_text(starts, [&](JsonWriter& last) { write_with_end(last, ours, end); }));
  } catch (const std::exception& error) {  // where memory is what ends the run, too
    warn("the end of this start is not recorded: {}", error.what());
  }
}

std::string as_recorded(const std::string& text) {
  return std::string(JsonDocument::parse(json_string(text), "an option").root().as_string());
}

}  // namespace facet
