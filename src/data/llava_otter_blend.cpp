// llava_otter_blend: conversations of MIMIC-IT's CGD (data/mimic_it.h), each after conversations of
// LLaVA about the same images, which both know by their COCO names. A head counts when each of its
// images but the last has a conversation in LLaVA's three files.
//
// Each access draws: of every image's conversations some, in a drawn order, at least one (the last
// image: perhaps none), with all their rounds; then of the head's rounds some, at least one, in a
// drawn order. An image stands before the first round of its conversations, those that are not
// shown by then before the first round of the head.
#include <algorithm>

#include "base/check.h"
#include "data/annotation_files.h"
#include "data/bad_samples.h"
#include "data/draws.h"
#include "data/formats.h"
#include "data/left_out.h"
#include "data/mimic_it.h"
#include "data/turns.h"

namespace facet {

namespace {

constexpr const char* kImages = "coco/train2017";
constexpr int64_t kLlavaFiles = 3;  // the last file is CGD's

// LLaVA's records by their images.
class LlavaByImage {
 public:
  void add(const JsonValue& records) {
    if (!records.is_array()) records.reject("expected an array of records");
    for (const JsonValue record : records) add_record(record);
  }
  void sort() {
    std::stable_sort(entries_.begin(), entries_.end(),
                     [](const Entry& a, const Entry& b) { return a.image < b.image; });
  }
  size_t count(std::string_view image) const {
    const auto [begin, end] = range(image);
    return static_cast<size_t>(end - begin);
  }
  JsonValue at(std::string_view image, size_t index) const {
    return (range(image).first + static_cast<std::ptrdiff_t>(index))->record;
  }

 private:
  struct Entry {
    std::string_view image;
    JsonValue record;
  };

  // One that names no image, or not as it should, is of no use here.
  void add_record(const JsonValue& record) {
    try {
      const std::optional<JsonValue> image = record.find("image");
      if (image && !image->is_null()) entries_.push_back({image->as_string(), record});
    } catch (const Error& error) {
      if (!means_bad_sample(error)) throw;
    }
  }
  std::pair<std::vector<Entry>::const_iterator, std::vector<Entry>::const_iterator> range(
      std::string_view image) const {
    const auto begin = std::partition_point(entries_.begin(), entries_.end(),
                                            [&](const Entry& e) { return e.image < image; });
    return {begin,
            std::find_if(begin, entries_.end(), [&](const Entry& e) { return e.image != image; })};
  }

  std::vector<Entry> entries_;
};

std::vector<std::string> coco_files(const JsonValue& head) {
  std::vector<std::string> files;
  for (const JsonValue id : ids_of(head, "image_ids"))
    files.push_back(coco_file_of_cgd(id.as_string()));
  return files;
}

class LlavaOtterBlend : public Dataset {
 public:
  explicit LlavaOtterBlend(const DatasetSources& sources)
      : Dataset("llava_otter_blend"),
        files_(name(), sources,
               {{"llava/detail_23k.json", "llava/complex_reasoning_77k.json",
                 "llava/conversation_58k.json", "MIMIC-IT/CGD_instructions.json"},
                {kImages},
                {}}),
        images_(data_file(sources, kImages), sources.outside_images),
        llava_(by_image(files_)),
        conversations_(name(), files_.root(kLlavaFiles), [&](const JsonValue& record) {
          return why_not(record, sources.max_images);
        }) {
    check_record_count(name(), num_records());
  }

  bool multi_image() const override { return true; }
  int64_t num_records() const override { return conversations_.size(); }
  std::string file_of(int64_t) const override { return files_.path(kLlavaFiles); }
  uint64_t fingerprint() const override { return files_.fingerprint(); }
  std::vector<SourceFile> files() const override { return files_.files(); }

  RawSample read(int64_t record, RandomStream& draws) const override {
    RawSample sample{{}, ImageNumbers::kInText};
    const std::vector<std::string> images = coco_files(conversations_.head(record));
    std::vector<ImageRef> waiting;  // images that no round shows yet
    for (size_t i = 0; i < images.size(); ++i) {
      waiting.push_back(images_.at(images[i]));
      add_llava(images[i], i + 1 < images.size() ? 1 : 0, draws, waiting, sample);
    }
    add_otter(conversations_.rounds(record), draws, waiting, sample);
    return sample;
  }

 private:
  static LlavaByImage by_image(const AnnotationFiles& files) {
    LlavaByImage llava;
    for (int64_t file = 0; file < kLlavaFiles; ++file) llava.add(files.root(file));
    llava.sort();
    return llava;
  }

  std::string why_not(const JsonValue& record, int64_t max_images) const {
    const std::vector<std::string> images = coco_files(record);
    for (size_t i = 0; i + 1 < images.size(); ++i)
      if (llava_.count(images[i]) == 0)
        return "no LLaVA conversation about an image before the last";
    return why_not_so_many(static_cast<int64_t>(images.size()), max_images);
  }

  static void add_round(std::string_view question, std::string_view answer,
                        std::vector<ImageRef>& waiting, RawSample& sample) {
    sample.rounds.push_back(
        {std::string(question), std::string(answer), std::exchange(waiting, {})});
  }

  void add_llava(const std::string& image, size_t least, RandomStream& draws,
                 std::vector<ImageRef>& waiting, RawSample& sample) const {
    const size_t all = llava_.count(image);
    if (all == 0) return;
    for (const size_t drawn : draw_some(all, draw_count(least, all, draws), draws)) {
      const JsonValue turns = turns_of(llava_.at(image, drawn));
      for (int64_t r = 0; r < turns.size() / 2; ++r) {
        const auto [question, answer] = round_of(turns, r);
        add_round(clean_question(question), answer, waiting, sample);
      }
    }
  }

  static void add_otter(const std::vector<RawRound>& rounds, RandomStream& draws,
                        std::vector<ImageRef>& waiting, RawSample& sample) {
    const size_t count = draw_count(1, rounds.size(), draws);
    for (const size_t drawn : draw_some(rounds.size(), count, draws))
      add_round(rounds[drawn].question, rounds[drawn].answer, waiting, sample);
  }

  AnnotationFiles files_;
  ImageFiles images_;
  LlavaByImage llava_;
  MimicItConversations conversations_;
};

}  // namespace

std::unique_ptr<Dataset> open_llava_otter_blend(const DatasetSources& sources) {
  return std::make_unique<LlavaOtterBlend>(sources);
}

}  // namespace facet
