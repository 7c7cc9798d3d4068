#include "data/dataset.h"

#include <fmt/format.h>

#include "base/check.h"
#include "data/formats.h"

namespace facet {

namespace {

struct Format {
  std::string name;
  std::unique_ptr<Dataset> (*open)(const DatasetSources& sources);
};

const std::vector<Format>& formats() {
  static const std::vector<Format> table = {{"llava", open_llava},
                                            {"llava_dial", open_llava_dial},
                                            {"coco_caption", open_coco_caption},
                                            {"minigpt4", open_minigpt4}};
  return table;
}

}  // namespace

int64_t RawSample::num_images() const {
  int64_t n = 0;
  for (const RawRound& round : rounds) n += static_cast<int64_t>(round.images.size());
  return n;
}

const std::vector<std::string>& built_dataset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Format& format : formats()) list.push_back(format.name);
    return list;
  }();
  return names;
}

const std::vector<std::string>& unbuilt_dataset_names() {
  static const std::vector<std::string> names = {
      "aokvqa",           "ocr_vqa",           "otter_mimicit_cgd", "otter_mimicit_sd",
      "otter_mimicit_sn", "otter_mimicit_tvc", "otter_mimicit_vst", "llava_otter_blend",
      "sparkles_dialogue"};
  return names;
}

std::unique_ptr<Dataset> open_dataset(const std::string& name, const DatasetSources& sources) {
  for (const Format& format : formats())
    if (format.name == name) return format.open(sources);
  for (const std::string& known : unbuilt_dataset_names())
    CHECK(known != name, ExitCode::kConfig, "data set {} is not supported yet; supported are: {}",
          name, fmt::join(built_dataset_names(), ", "));
  fail(ExitCode::kUsage, "there is no data set {}; supported are: {}", name,
       fmt::join(built_dataset_names(), ", "));
}

const std::string& draw_question(const std::vector<std::string>& questions, RandomStream& draws) {
  ASSERT(!questions.empty(), "no questions to draw from");
  return questions[draws.below(questions.size())];
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
