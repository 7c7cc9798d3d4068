// aokvqa: [{"image_id": 123, "question": text, "choices": [text, ...], "correct_choice_idx": 0,
// "rationales": [text, ...]}, ...] with 000000000123.jpg as the image. Each access draws a phrase
// that asks for the reason; the answer is the right choice with all rationales.
#include <fmt/format.h>

#include "data/formats.h"
#include "data/json_dataset.h"

namespace facet {

namespace {

// COCO's file name of an image: its number, with zeros before it up to 12 characters.
std::string coco_file(const JsonValue& image_id) {
  if (!image_id.is_integer()) return fmt::format("{:0>12}.jpg", image_id.as_string());
  if (image_id.as_int() < 0) image_id.reject("the number of an image is negative");
  return fmt::format("{:012}.jpg", image_id.as_int());
}

std::string_view right_choice(const JsonValue& record) {
  const JsonValue choices = record.at("choices"), index = record.at("correct_choice_idx");
  if (!choices.is_array()) choices.reject("expected an array of choices");
  if (index.as_int() < 0 || index.as_int() >= choices.size())
    index.reject(fmt::format("there are {} choices", choices.size()));
  return choices.at(index.as_int()).as_string();
}

std::string reasons(const JsonValue& rationales) {
  if (!rationales.is_array() || rationales.size() == 0)
    rationales.reject("expected an array of at least one reason");
  std::string text;
  for (const JsonValue reason : rationales)
    text.append(text.empty() ? "" : " ").append(reason.as_string());
  return text;
}

class Aokvqa : public JsonDataset {
 public:
  explicit Aokvqa(const DatasetSources& sources)
      : JsonDataset("aokvqa", sources,
                    {{"aokvqa/annotations/aokvqa_v1p0_train.json"}, "", "coco/train2017"}),
        phrases_(sources.why_phrases) {}

 private:
  RawSample parse(const JsonValue& record, RandomStream& draws) const override {
    RawRound round;
    round.question = clean_question(record.at("question").as_string()) + " ";
    round.question += draw_text(phrases_, draws);
    round.answer = fmt::format("The answer is {}. Because {}", right_choice(record),
                               reasons(record.at("rationales")));
    round.images.push_back(image(coco_file(record.at("image_id"))));
    return {{std::move(round)}};
  }

  std::vector<std::string> phrases_;
};

}  // namespace

std::unique_ptr<Dataset> open_aokvqa(const DatasetSources& sources) {
  return std::make_unique<Aokvqa>(sources);
}

}  // namespace facet
