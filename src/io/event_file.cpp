#include "io/event_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>

#include "base/check.h"
#include "io/crc32c.h"
#include "io/file.h"
#include "io/protobuf.h"

namespace facet {

namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";
constexpr int64_t kMaxBytes = int64_t{1} << 32;
constexpr size_t kHeadBytes = 12;  // length and its CRC
constexpr size_t kTailBytes = 4;   // CRC of the message

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// SECONDS of an event file's name; 0 where there is none.
int64_t seconds_of(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  int64_t seconds = 0;
  std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), seconds);
  return seconds;
}

constexpr int64_t kStringTensor = 7;  // DT_STRING

ProtobufWriter message_of(uint32_t field, std::string_view bytes) {
  ProtobufWriter message;
  message.put_bytes(field, bytes);
  return message;
}

// A tensor of one string, and that the text plugin shows it.
std::string encoded(const Text& text) {
  ProtobufWriter size, tensor, value;
  size.put_varint(1, 1);
  tensor.put_varint(1, kStringTensor);
  tensor.put_bytes(2, message_of(2, size.bytes()).bytes());
  tensor.put_bytes(8, text.text);
  value.put_bytes(1, text.tag);
  value.put_bytes(8, tensor.bytes());
  value.put_bytes(9, message_of(1, message_of(1, "text").bytes()).bytes());
  return value.bytes();
}

std::string encoded(const Event& event) {
  ProtobufWriter message;
  message.put_double(1, event.wall_time);
  message.put_varint(2, event.step);
  if (!event.file_version.empty()) message.put_bytes(3, event.file_version);
  if (!event.scalars.empty() || !event.texts.empty()) {
    ProtobufWriter summary;
    for (const Scalar& scalar : event.scalars) {
      ProtobufWriter value;
      value.put_bytes(1, scalar.tag);
      value.put_float(2, scalar.value);
      summary.put_bytes(1, value.bytes());
    }
    for (const Text& text : event.texts) summary.put_bytes(1, encoded(text));
    message.put_bytes(5, summary.bytes());
  }
  if (event.session_start) {
    ProtobufWriter session_log;
    session_log.put_varint(1, 1);
    message.put_bytes(7, session_log.bytes());
  }
  return message.bytes();
}

// A scalar, unless it has a tensor: then a text.
void decode_value(std::string_view message, Event& event) {
  Scalar scalar;
  std::optional<std::string> text;
  for (const ProtobufField& field : protobuf_fields(message)) {
    if (field.number == 1) scalar.tag = field.bytes;
    if (field.number == 2) scalar.value = field.as_float();
    if (field.number != 8) continue;
    for (const ProtobufField& of_tensor : protobuf_fields(field.bytes))
      if (of_tensor.number == 8) text = of_tensor.bytes;
  }
  if (text)
    event.texts.push_back({scalar.tag, *text});
  else
    event.scalars.push_back(scalar);
}

Event decoded(std::string_view message) {
  Event event;
  for (const ProtobufField& field : protobuf_fields(message)) {
    if (field.number == 1) event.wall_time = field.as_double();
    if (field.number == 2) event.step = static_cast<int64_t>(field.value);
    if (field.number == 3) event.file_version = field.bytes;
    if (field.number == 5)
      for (const ProtobufField& value : protobuf_fields(field.bytes))
        decode_value(value.bytes, event);
    if (field.number == 7)
      for (const ProtobufField& status : protobuf_fields(field.bytes))
        event.session_start = status.number == 1 && status.value == 1;
  }
  return event;
}

uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8U; }

// The message of the record at the front of `rest`, which it is taken from; nullopt for one that is
// cut off or damaged.
std::optional<std::string_view> take_record(std::string_view& rest) {
  if (rest.size() < kHeadBytes + kTailBytes) return std::nullopt;
  const uint64_t length = little_endian(rest, 8);
  if (little_endian(rest.substr(8), 4) != masked_crc(rest.substr(0, 8))) return std::nullopt;
  if (length > rest.size() - kHeadBytes - kTailBytes) return std::nullopt;
  const std::string_view message = rest.substr(kHeadBytes, length);
  if (little_endian(rest.substr(kHeadBytes + length), 4) != masked_crc(message))
    return std::nullopt;
  rest.remove_prefix(kHeadBytes + length + kTailBytes);
  return message;
}

}  // namespace

EventFile::EventFile(const std::string& directory, const std::string& host) {
  make_directories(directory);
  auto seconds = static_cast<int64_t>(now());
  for (const std::string& path : event_files(directory))
    seconds = std::max(seconds, seconds_of(path) + 1);
  path_ = fmt::format("{}/{}{:010d}.{}.{}.0", directory, kPrefix, seconds, host, ::getpid());
  file_ = std::fopen(path_.c_str(), "wxe");
  CHECK(file_ != nullptr, ExitCode::kIo, "{}: can't be written: {}", path_, std::strerror(errno));
  write(Event{.wall_time = now(), .file_version = "brain.Event:2"});
}

EventFile::~EventFile() { std::fclose(file_); }

void EventFile::session_start(int64_t step) {
  write(Event{.wall_time = now(), .step = step, .session_start = true});
}

void EventFile::write(int64_t step, std::span<const Scalar> scalars) {
  write(Event{.wall_time = now(), .step = step, .scalars = {scalars.begin(), scalars.end()}});
}

void EventFile::write(int64_t step, std::span<const Text> texts) {
  write(Event{.wall_time = now(), .step = step, .texts = {texts.begin(), texts.end()}});
}

void EventFile::write(const Event& event) {
  const std::string message = encoded(event);
  std::string record;
  put_little_endian(record, message.size(), 8);
  put_little_endian(record, masked_crc(record), 4);
  record += message;
  put_little_endian(record, masked_crc(message), 4);
  const bool written = std::fwrite(record.data(), 1, record.size(), file_) == record.size();
  CHECK(written && std::fflush(file_) == 0, ExitCode::kIo, "{}: can't be written: {}", path_,
        std::strerror(errno));
}

void EventFile::sync() {
  CHECK(std::fflush(file_) == 0 && ::fsync(::fileno(file_)) == 0, ExitCode::kIo,
        "{}: can't be flushed: {}", path_, std::strerror(errno));
}

std::vector<std::string> event_files(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.path().filename().string().starts_with(kPrefix))
      paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Event> read_events(const std::string& path) {
  const std::string text = read_file(path, kMaxBytes);
  std::vector<Event> events;
  std::string_view rest = text;
  while (const auto message = take_record(rest)) events.push_back(decoded(*message));
  return events;
}

}  // namespace facet
