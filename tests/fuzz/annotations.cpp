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
  std::string images;
};

// Where each data set has its files. A data set that is not here is a finding.
const std::map<std::string, Layout>& layouts() {
  static const std::map<std::string, Layout> table = {
      {"llava", {{"llava/detail_23k.json", "llava/complex_reasoning_77k.json"}, "coco/train2017"}},
      {"llava_dial", {{"llava/conversation_58k.json"}, "coco/train2017"}},
      {"coco_caption", {{"coco_caption/dataset.json"}, "coco/2014"}},
      {"minigpt4", {{"cc_sbu_align/filter_cap.json"}, "cc_sbu_align/image"}}};
  return table;
}

void read_records(const std::string& name) {
  const auto dataset = open_dataset(name, {fuzz::scratch(), {"What is it?", "Describe it."}});
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
  for (const std::string& name : built_dataset_names()) {
    const auto layout = layouts().find(name);
    fuzz::require(layout != layouts().end(), name + " has no files in tests/fuzz/annotations.cpp");
    for (const std::string& file : layout->second.files) fuzz::put(file, fuzz::text_of(data, size));
    std::filesystem::create_directories(fuzz::scratch() + "/" + layout->second.images);
    fuzz::may_refuse([&] { read_records(name); });
  }
  return 0;
}
