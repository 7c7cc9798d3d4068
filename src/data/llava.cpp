// llava: {"image": "000000123456.jpg", "conversations": [{"from": "human", "value": question},
// {"from": "gpt", "value": answer}, ...]}; the first question and answer are used. A record without
// `image` is text only.
#include "base/check.h"
#include "data/formats.h"
#include "data/json_dataset.h"
#include "data/turns.h"

namespace facet {

namespace {

class Llava : public JsonDataset {
 public:
  explicit Llava(const DatasetSources& sources)
      : JsonDataset(
            "llava", sources,
            {{"llava/detail_23k.json", "llava/complex_reasoning_77k.json"}, "", "coco/train2017"}) {
  }

 private:
  RawSample parse(const JsonValue& record, RandomStream&) const override {
    const JsonValue turns = turns_of(record);
    const auto [question, answer] = round_of(turns, 0);
    RawRound round;
    const std::string image = record.get_string("image", "");
    const int64_t places = count_image_places(question);
    if (image.empty() ? places > 0 : places > 1)
      turns.reject(
          fmt::format("{} image placeholders for {} images", places, image.empty() ? 0 : 1));
    if (!image.empty()) round.images.push_back(this->image(image));
    round.question = clean_question(question);
    round.answer = answer;
    return {{std::move(round)}};
  }
};

}  // namespace

std::unique_ptr<Dataset> open_llava(const DatasetSources& sources) {
  return std::make_unique<Llava>(sources);
}

}  // namespace facet
