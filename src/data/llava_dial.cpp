// llava_dial: records as in llava, with all rounds used. The image belongs to the round whose
// question holds the image placeholder. A last question without an answer is left out.
#include "base/check.h"
#include "data/formats.h"
#include "data/json_dataset.h"
#include "data/turns.h"

namespace facet {

namespace {

class LlavaDial : public JsonDataset {
 public:
  explicit LlavaDial(const DatasetSources& sources)
      : JsonDataset("llava_dial", sources,
                    {{"llava/conversation_58k.json"}, "", "coco/train2017"}) {}

 private:
  RawSample parse(const JsonValue& record, RandomStream&) const override {
    const JsonValue turns = turns_of(record);
    const std::string image = record.get_string("image", "");
    int64_t places = 0;
    RawSample sample;
    for (int64_t r = 0; r < turns.size() / 2; ++r) {
      const auto [question, answer] = round_of(turns, r);
      RawRound& round = sample.rounds.emplace_back();
      round.question = clean_question(question);
      round.answer = answer;
      const int64_t here = count_image_places(question);
      if (here > 0 && !image.empty()) round.images.push_back(this->image(image));
      places += here;
    }
    if (turns.size() % 2 == 1) turn_text(turns, turns.size() - 1);  // left out, but a question
    const int64_t images = image.empty() ? 0 : 1;
    if (places != images)
      turns.reject(fmt::format("{} image placeholders for {} images", places, images));
    return sample;
  }
};

}  // namespace

std::unique_ptr<Dataset> open_llava_dial(const DatasetSources& sources) {
  return std::make_unique<LlavaDial>(sources);
}

}  // namespace facet
