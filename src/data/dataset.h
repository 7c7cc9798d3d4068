// Data sets: annotation files in their publishers' formats, and how a record becomes a conversation
// about images.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "data/dataset_choice.h"
#include "data/image_source.h"
#include "data/prompt_style.h"

namespace facet {

// A question with its answer. `images` are those of this round, in order.
struct RawRound {
  std::string question;  // without image placeholders and line breaks
  std::string answer;
  std::vector<ImageRef> images;
};

// A conversation about images, not yet tokenised. A round without images is text only.
struct RawSample {
  std::vector<RawRound> rounds;
  ImageNumbers image_numbers = ImageNumbers::kAfterEncoding;  // a matter of the data set
  std::optional<std::string> system_text = {};                // instead of the run's

  int64_t num_images() const;
};

// A file that a data set stands on, as it was found.
struct SourceFile {
  enum class Hashed : uint8_t {
    kBytes,  // all of them
    kIndex,  // what lies where in it, by which name; the rest may change unnoticed
  };

  std::string path;
  int64_t bytes = 0, modified = 0;  // modified: ns since 1970
  uint64_t hash = 0;                // XXH3
  Hashed hashed = Hashed::kBytes;
};

class Dataset {
 public:
  explicit Dataset(std::string name) : name_(std::move(name)) {}
  virtual ~Dataset() = default;

  const std::string& name() const { return name_; }
  virtual int64_t num_records() const = 0;
  // Whether a record has several images; such records are never concatenated.
  virtual bool multi_image() const { return false; }
  // Makes a sample of the record: a pure function of the record and the stream's draws;
  // thread-safe. A malformed record throws Error(kBadData). The sample's images lie in sources of
  // this data set, which must outlive it.
  virtual RawSample read(int64_t record, RandomStream& draws) const = 0;
  // The annotation file that holds the record, for messages; empty: it has none.
  virtual std::string file_of(int64_t) const { return ""; }
  // XXH3 of the annotation files' bytes, and of what lies where in files of many images.
  virtual uint64_t fingerprint() const = 0;
  // All files but those that hold one image each, to tell which of them has changed.
  virtual std::vector<SourceFile> files() const { return {}; }

 private:
  std::string name_;
};

// Values for --dataset_names: published data sets, and kinds of own files, as json in json:PATH.
const std::vector<std::string>& dataset_names();
const std::vector<std::string>& own_dataset_kinds();

struct DatasetSources {
  std::string data_path;                            // --data_path
  std::vector<std::string> caption_questions = {};  // questions for captions; see prompt_texts.h
  OutsideImages outside_images = OutsideImages::kRefused;  // --allow_outside_images
  std::vector<std::string> why_phrases = {};               // see prompt_texts.h
  int64_t max_images = INT32_MAX;                          // --max_num_image_per_sample
  PromptStyle style = PromptStyle::kCorrect;
  std::string index_directory = {};  // of the indexes of large files; "": none
  std::string image_root = {};       // --image_root; "": images lie beside own files
};

// Opens the annotation files below data_path. A missing file or directory, an annotation file of
// another structure and a data set without records are errors that say which files belong where.
std::unique_ptr<Dataset> open_dataset(const DatasetChoice& choice, const DatasetSources& sources);
std::unique_ptr<Dataset> open_dataset(const std::string& name, const DatasetSources& sources);

// For a data set of large files: makes sure that index_directory has their index. For one process,
// before the others open the data set; without it each reads the whole files.
void index_files(const DatasetChoice& choice, const DatasetSources& sources);

}  // namespace facet
