// minigpt4: {"annotations": [{"image_id": "123", "caption": answer}, ...]} with image_id.jpg as the
// image; each access draws a question.
#include "data/formats.h"
#include "data/json_dataset.h"

namespace facet {

namespace {

class MiniGpt4 : public JsonDataset {
 public:
  explicit MiniGpt4(const DatasetSources& sources)
      : JsonDataset("minigpt4", sources,
                    {{"cc_sbu_align/filter_cap.json"}, "annotations", "cc_sbu_align/image"}),
        questions_(sources.caption_questions) {}

 private:
  RawSample parse(const JsonValue& record, RandomStream& draws) const override {
    RawRound round;
    round.question = draw_text(questions_, draws);
    round.answer = record.at("caption").as_string();
    round.images.push_back(image(std::string(record.at("image_id").as_string()) + ".jpg"));
    return {{std::move(round)}};
  }

  std::vector<std::string> questions_;
};

}  // namespace

std::unique_ptr<Dataset> open_minigpt4(const DatasetSources& sources) {
  return std::make_unique<MiniGpt4>(sources);
}

}  // namespace facet
