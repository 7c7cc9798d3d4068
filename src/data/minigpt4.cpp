// minigpt4: {"annotations": [{"image_id": "123", "caption": answer}, ...]} with image_id.jpg as the
// image; each access draws a question.
#include "data/formats.h"
#include "data/json_dataset.h"

namespace facet {

namespace {

class MiniGpt4 : public JsonDataset {
 public:
  explicit MiniGpt4(const std::string& data_path)
      : JsonDataset("minigpt4", data_path,
                    {{"cc_sbu_align/filter_cap.json"}, "annotations", "cc_sbu_align/image"}) {}

 private:
  RawSample parse(const JsonValue& record, RandomStream& draws) const override {
    RawRound round;
    round.question = draw_caption_question(draws);
    round.answer = record.at("caption").as_string();
    round.images.push_back(image_path(record.at("image_id").as_string()) + ".jpg");
    return {{std::move(round)}};
  }
};

}  // namespace

std::unique_ptr<Dataset> open_minigpt4(const std::string& data_path) {
  return std::make_unique<MiniGpt4>(data_path);
}

}  // namespace facet
