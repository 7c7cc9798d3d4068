// Event files of TensorBoard.
//
// A file is a sequence of records: uint64 length, masked CRC-32C of these 8 bytes, a message,
// masked CRC-32C of the message; all little-endian. mask(crc) = (crc rotated right by 15 bits) +
// 0xa282ead8. A message is an Event of protocol buffers, of which these fields are used:
//   Event            1 wall_time (double), 2 step (int64), 3 file_version (string), 5 summary
//                    (Summary), 7 session_log (SessionLog)
//   Summary          1 value (repeated Value)
//   Value            1 tag (string), 2 simple_value (float), or of a text 8 tensor (TensorProto),
//                    9 metadata (SummaryMetadata)
//   TensorProto      1 dtype (DT_STRING = 7), 2 tensor_shape (2 dim (1 size (int64))),
//                    8 string_val (bytes)
//   SummaryMetadata  1 plugin_data (1 plugin_name (string) "text")
//   SessionLog       1 status (START = 1)
// The first event of a file has the version "brain.Event:2". A session start at step S makes a
// reader drop what earlier files hold for step S and later ones.
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace facet {

struct Scalar {
  std::string tag;  // "Train/Samples/train_loss"
  float value = 0;
};

// What the text plugin shows.
struct Text {
  std::string tag;
  std::string text;
};

struct Event {
  double wall_time = 0;  // seconds since 1970
  int64_t step = 0;
  std::string file_version = {};
  bool session_start = false;
  std::vector<Scalar> scalars = {};
  std::vector<Text> texts = {};
};

// Writes one event file. Every event is handed to the operating system at once, so that the file of
// a killed run is complete up to its last event. Errors are kIo.
class EventFile {
 public:
  // Creates DIRECTORY (if need be) and in it events.out.tfevents.SECONDS.HOST.PID.0. Readers take
  // files in the order of their names: SECONDS is the time, or one more than that of the newest
  // file there.
  EventFile(const std::string& directory, const std::string& host);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  void session_start(int64_t step);
  void write(int64_t step, std::span<const Scalar> scalars);
  void write(int64_t step, std::span<const Text> texts);
  // Flushes the file to the disk.
  void sync();

 private:
  void write(const Event& event);

  std::string path_;
  std::FILE* file_ = nullptr;
};

// The paths of a directory's event files, in the order in which they are read. None if there is no
// such directory.
std::vector<std::string> event_files(const std::string& directory);

// The events of a file up to its end, or to the first record that is cut off or damaged. Fields not
// named above are skipped. kMissingInput if it can't be read.
std::vector<Event> read_events(const std::string& path);

}  // namespace facet
