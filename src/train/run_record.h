// OUT/run.json: every start of a run, with what it was started as and how it ended.
//
//   {"format": "facet run record v1", "starts": [{"start": 1, ..., "end": {...}}, {"start": 2,
//   ...}]}
//
// Starts are added and never changed, but for the "end" that the last one gets; one that was killed
// has none. Every write replaces the file by a whole one. What the file can't be used for is no
// reason to end a run: there are warnings instead of errors.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/check.h"
#include "io/json.h"
#include "train/option_texts.h"

namespace facet {

struct RunEnd {
  ExitCode code = ExitCode::kOk;
  int64_t step = 0;
  std::string checkpoint;  // "none" for none
};

class RunRecord {
 public:
  enum class Earlier : uint8_t { kGoesOn, kIsKeptAside };
  using WriteMembers = std::function<void(JsonWriter&)>;

  // For rank 0. Reads the record of the run that goes on. That of an earlier run is kept aside by
  // begin(), as its logs are; so is a file that is no record, with a warning.
  RunRecord(const std::string& output_dir, Earlier earlier);
  // For the other ranks, which read and begin nothing.
  RunRecord(const std::string& output_dir, int64_t start);

  int64_t start() const { return start_; }  // the number of this start, from 1
  // Of the last start that the record has; empty where none is known.
  const OptionTexts& last_options() const { return last_options_; }

  // Adds this start; `write_members` writes what follows "start" in its object.
  void begin(const WriteMembers& write_members);
  // Adds the end of this start; other ranks than 0 only for an error that no other rank knows of.
  void end(const RunEnd& end) const;

 private:
  void read();
  bool keep_aside() const;

  const std::string path_;
  int64_t start_ = 1;
  OptionTexts last_options_;
  std::optional<JsonDocument> earlier_, own_;  // the starts before this one; this one
  bool is_aside_ = false;                      // what lies under the name is to be
  bool is_ours_ = true;                        // it may be written
};

// The text as it is read back: bytes that are not UTF-8 change.
std::string as_recorded(const std::string& text);

}  // namespace facet
