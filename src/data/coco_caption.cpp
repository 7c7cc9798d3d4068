// coco_caption: {"images": [{"filename": "COCO_train2014_....jpg", "sentences": [{"raw": caption},
// ...]}, ...]}; each access draws one of the captions and a question.
#include "data/formats.h"
#include "data/json_dataset.h"

namespace facet {

namespace {

class CocoCaption : public JsonDataset {
 public:
  explicit CocoCaption(const DatasetSources& sources)
      : JsonDataset("coco_caption", sources,
                    {{"coco_caption/dataset.json"}, "images", "coco/2014"}),
        questions_(sources.caption_questions) {}

 private:
  RawSample parse(const JsonValue& record, RandomStream& draws) const override {
    const JsonValue captions = record.at("sentences");
    if (!captions.is_array() || captions.size() == 0)
      captions.reject("expected an array of at least one sentence");
    const auto chosen = static_cast<int64_t>(draws.below(static_cast<uint64_t>(captions.size())));
    RawRound round;
    round.question = draw_text(questions_, draws);
    round.answer = captions.at(chosen).at("raw").as_string();
    round.images.push_back(image(record.at("filename").as_string()));
    return {{std::move(round)}};
  }

  std::vector<std::string> questions_;
};

}  // namespace

std::unique_ptr<Dataset> open_coco_caption(const DatasetSources& sources) {
  return std::make_unique<CocoCaption>(sources);
}

}  // namespace facet
