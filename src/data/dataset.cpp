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
  static const std::vector<OwnFormat> table = {{"json", open_own_json, index_own_json}};
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

std::unique_ptr<Dataset> open_dataset(const DatasetChoice& choice, const DatasetSources& sources) {
  for (const OwnFormat& format : own_formats())
    if (format.kind == choice.type) return format.open(choice, sources);
  for (const Format& format : formats())
    if (format.name == choice.type) return format.open(sources);
  fail(ExitCode::kUsage, "there is no data set {}; there are: {}", choice.type,
       fmt::join(dataset_names(), ", "));
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
