// Data sets: annotation files in the formats of their publishers, and how one record becomes a
// conversation about images.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"

namespace facet {

// A question with its answer. `images` are the files that this round shows, in order.
struct RawRound {
  std::string question;  // without image places and line breaks
  std::string answer;
  std::vector<std::string> images;
};

// One conversation about its images, not yet tokenised. A round without images is text only.
struct RawSample {
  std::vector<RawRound> rounds;

  int64_t num_images() const;
};

class Dataset {
 public:
  explicit Dataset(std::string name) : name_(std::move(name)) {}
  virtual ~Dataset() = default;

  const std::string& name() const { return name_; }
  virtual int64_t num_records() const = 0;
  // Whether a record brings several images; such records are never concatenated.
  virtual bool multi_image() const { return false; }
  // The record as a sample: a pure function of the record and the stream's draws; safe to call from
  // several threads. A malformed record throws Error(kBadData).
  virtual RawSample read(int64_t record, RandomStream& draws) const = 0;
  // XXH3 of the annotation files' bytes.
  virtual uint64_t fingerprint() const = 0;

 private:
  std::string name_;
};

// Values for --dataset_names: those that open_dataset() opens, and those that
// are known but not built yet.
const std::vector<std::string>& built_dataset_names();
const std::vector<std::string>& unbuilt_dataset_names();

struct DatasetSources {
  std::string data_path;                       // --data_path
  std::vector<std::string> caption_questions;  // what captions answer; see prompt_texts.h
};

// Opens the annotation files below data_path. A missing file or directory, an annotation file that
// is not of the expected shape and a data set without records are errors that say what belongs
// where.
std::unique_ptr<Dataset> open_dataset(const std::string& name, const DatasetSources& sources);

}  // namespace facet
