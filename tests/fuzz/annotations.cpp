// The annotation file of every data set: each record is read as a sample of a conversation.
#include <filesystem>
#include <map>

#include "base/rng.h"
#include "common/target.h"
#include "data/dataset.h"

namespace facet {
namespace {

struct Layout {
  std::vector<std::string> files;
  std::vector<std::string> images;  // directories
  std::string image_file = {};      // of many images
};

const std::string kCoco = "coco/train2017";
const std::vector<std::string> kLlava = {
    "llava/detail_23k.json", "llava/complex_reasoning_77k.json", "llava/conversation_58k.json"};

Layout mimic_it(const std::string& set) {
  return {{"MIMIC-IT/" + set + "_instructions.json"}, {}, "MIMIC-IT/" + set + ".json"};
}

// Where each data set has its files. A data set that is not here is a finding.
const std::map<std::string, Layout>& layouts() {
  static const std::map<std::string, Layout> table = {
      {"llava", {{kLlava[0], kLlava[1]}, {kCoco}}},
      {"llava_dial", {{kLlava[2]}, {kCoco}}},
      {"coco_caption", {{"coco_caption/dataset.json"}, {"coco/2014"}}},
      {"minigpt4", {{"cc_sbu_align/filter_cap.json"}, {"cc_sbu_align/image"}}},
      {"aokvqa", {{"aokvqa/annotations/aokvqa_v1p0_train.json"}, {kCoco}}},
      {"ocr_vqa", {{"OCR_VQA/dataset.json"}, {"OCR_VQA/images"}}},
      {"otter_mimicit_cgd", {{"MIMIC-IT/CGD_instructions.json"}, {kCoco}}},
      {"otter_mimicit_sd", mimic_it("SD")},
      {"otter_mimicit_sn", mimic_it("SN")},
      {"otter_mimicit_tvc", mimic_it("TVC")},
      {"otter_mimicit_vst", mimic_it("VST")},
      {"llava_otter_blend", {{"MIMIC-IT/CGD_instructions.json"}, {kCoco}}},
      {"sparkles_dialogue",
       {{"SparklesDialogueCC/annotations/SparklesDialogueCC.json",
         "SparklesDialogueVG/annotations/SparklesDialogueVG.json"},
        {"SparklesDialogueCC/images", "SparklesDialogueVG/images"}}}};
  return table;
}

// What the records of llava_otter_blend and of MIMIC-IT may refer to.
constexpr const char* kConversations =
    R"([{"image":"1.jpg","conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}])";
constexpr const char* kImages = R"({"A":"Zg==","B":"Zg=="})";

DatasetSources sources(PromptStyle style) {
  DatasetSources made;
  made.data_path = fuzz::scratch();
  made.caption_questions = {"What is it?", "Describe it."};
  made.why_phrases = {"Why?"};
  made.max_images = 4;
  made.style = style;
  return made;
}

void read_records(const std::string& name, PromptStyle style) {
  const auto dataset = open_dataset(name, sources(style));
  for (int64_t record = 0; record < dataset->num_records(); ++record)
    fuzz::may_refuse([&] {
      RandomStream draws(1, "question", static_cast<uint64_t>(record));
      const RawSample sample = dataset->read(record, draws);
      fuzz::require(sample.num_images() >= 0, "no number of images");
    });
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  for (const std::string& name : dataset_names()) {
    const auto layout = layouts().find(name);
    fuzz::require(layout != layouts().end(), name + " has no files in tests/fuzz/annotations.cpp");
    if (name == "llava_otter_blend")
      for (const std::string& file : kLlava) fuzz::put(file, kConversations);
    for (const std::string& file : layout->second.files) fuzz::put(file, fuzz::text_of(data, size));
    for (const std::string& directory : layout->second.images)
      std::filesystem::create_directories(fuzz::scratch() + "/" + directory);
    if (!layout->second.image_file.empty()) fuzz::put(layout->second.image_file, kImages);
    for (const PromptStyle style : {PromptStyle::kCorrect, PromptStyle::kVisualChat})
      fuzz::may_refuse([&] { read_records(name, style); });
  }
  return 0;
}
