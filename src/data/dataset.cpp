#include "data/dataset.h"

#include <fmt/format.h>

#include "base/check.h"
#include "data/formats.h"

namespace facet {

namespace {

struct Format {
  std::string name;
  std::unique_ptr<Dataset> (*open)(const DatasetSources& sources);
  void (*index)(const DatasetSources& sources) = nullptr;  // see index_files()
};

// A set of MIMIC-IT with its images in one file.
template <const char* set>
Format otter_format() {
  return {fmt::format("otter_mimicit_{}", set),
          [](const DatasetSources& sources) { return open_otter_json_images(set, sources); },
          [](const DatasetSources& sources) { index_otter_images(set, sources); }};
}
constexpr char kSd[] = "sd", kSn[] = "sn", kTvc[] = "tvc", kVst[] = "vst";

// A kind of a user's own files.
struct OwnFormat {
  std::string kind;
  std::unique_ptr<Dataset> (*open)(const DatasetChoice& choice, const DatasetSources& sources);
  void (*index)(const DatasetChoice& choice, const DatasetSources& sources);
};

const std::vector<OwnFormat>& own_formats() {
  static const std::vector<OwnFormat> table = {{"json", open_own_json, index_own_json},
                                               {"tar", open_own_tar, index_own_tar}};
  return table;
}

const std::vector<Format>& formats() {
  static const std::vector<Format> table = {{"llava", open_llava},
                                            {"llava_dial", open_llava_dial},
                                            {"coco_caption", open_coco_caption},
                                            {"minigpt4", open_minigpt4},
                                            {"aokvqa", open_aokvqa},
                                            {"ocr_vqa", open_ocr_vqa},
                                            {"otter_mimicit_cgd", open_otter_cgd},
                                            otter_format<kSd>(),
                                            otter_format<kSn>(),
                                            otter_format<kTvc>(),
                                            otter_format<kVst>(),
                                            {"llava_otter_blend", open_llava_otter_blend},
                                            {"sparkles_dialogue", open_sparkles_dialogue}};
  return table;
}

}  // namespace

int64_t RawSample::num_images() const {
  int64_t n = 0;
  for (const RawRound& round : rounds) n += static_cast<int64_t>(round.images.size());
  return n;
}

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Format& format : formats()) list.push_back(format.name);
    return list;
  }();
  return names;
}

const std::vector<std::string>& own_dataset_kinds() {
  static const std::vector<std::string> kinds = [] {
    std::vector<std::string> list;
    for (const OwnFormat& format : own_formats()) list.push_back(format.kind);
    return list;
  }();
  return kinds;
}

namespace {

// A data set whose samples have a system text, where they have none of their own.
class WithSystemText : public Dataset {
 public:
  WithSystemText(std::unique_ptr<Dataset> dataset, std::string system_text)
      : Dataset(dataset->name()), dataset_(std::move(dataset)), text_(std::move(system_text)) {}

  int64_t num_records() const override { return dataset_->num_records(); }
  bool multi_image() const override { return dataset_->multi_image(); }
  RawSample read(int64_t record, RandomStream& draws) const override {
    RawSample sample = dataset_->read(record, draws);
    if (!sample.system_text) sample.system_text = text_;
    return sample;
  }
  std::string file_of(int64_t record) const override { return dataset_->file_of(record); }
  uint64_t fingerprint() const override { return dataset_->fingerprint() ^ hash_name(text_); }
  std::vector<SourceFile> files() const override { return dataset_->files(); }

 private:
  std::unique_ptr<Dataset> dataset_;
  std::string text_;
};

std::unique_ptr<Dataset> open_files(const DatasetChoice& choice, const DatasetSources& sources) {
  for (const OwnFormat& format : own_formats())
    if (format.kind == choice.type) return format.open(choice, sources);
  for (const Format& format : formats())
    if (format.name == choice.type) return format.open(sources);
  fail(ExitCode::kUsage, "there is no data set {}; there are: {}", choice.type,
       fmt::join(dataset_names(), ", "));
}

}  // namespace

std::unique_ptr<Dataset> open_dataset(const DatasetChoice& choice, const DatasetSources& sources) {
  std::unique_ptr<Dataset> dataset = open_files(choice, sources);
  if (!choice.system_text) return dataset;
  return std::make_unique<WithSystemText>(std::move(dataset), *choice.system_text);
}

std::unique_ptr<Dataset> open_dataset(const std::string& name, const DatasetSources& sources) {
  return open_dataset(DatasetChoice{name, name}, sources);
}

void index_files(const DatasetChoice& choice, const DatasetSources& sources) {
  for (const OwnFormat& format : own_formats())
    if (format.kind == choice.type) format.index(choice, sources);
  for (const Format& format : formats())
    if (format.name == choice.type && format.index != nullptr) format.index(sources);
}

const std::string& draw_text(const std::vector<std::string>& texts, RandomStream& draws) {
  ASSERT(!texts.empty(), "no texts to draw from");
  return texts[draws.below(texts.size())];
}

int64_t count_image_places(std::string_view text) {
  int64_t n = 0;
  for (size_t at = text.find(kImagePlace); at != std::string_view::npos;
       at = text.find(kImagePlace, at + kImagePlace.size()))
    ++n;
  return n;
}

std::string clean_question(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    if (text.starts_with(kImagePlace)) {
      text.remove_prefix(kImagePlace.size());
      continue;
    }
    if (text.front() != '\n') clean += text.front();
    text.remove_prefix(1);
  }
  return clean;
}

}  // namespace facet
