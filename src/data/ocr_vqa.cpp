// ocr_vqa: {key: {"imageURL": "http://host/name.jpg", "questions": [text, ...], "answers": [text,
// ...]}, ...} with images/KEY.jpg as the image, with the extension of the URL. Each access draws
// one question with its answer.
#include <fmt/format.h>

#include "data/annotation_files.h"
#include "data/formats.h"
#include "data/json_records.h"

namespace facet {

namespace {

constexpr const char* kImages = "OCR_VQA/images";
// The publisher's server answers with a single pixel where a cover is gone.
constexpr int64_t kMinSide = 2;

// From the last dot of the last part of a path on, unless nothing but dots is before it; or "".
std::string_view extension_of(std::string_view path) {
  const std::string_view file = path.substr(path.rfind('/') + 1);
  const size_t dot = file.rfind('.');
  const size_t begin = file.find_first_not_of('.');
  return dot == file.npos || begin == file.npos || dot < begin ? "" : file.substr(dot);
}

JsonValue texts(const JsonValue& record, std::string_view key) {
  const JsonValue array = record.at(key);
  if (!array.is_array() || array.size() == 0)
    array.reject("expected an array of at least one text");
  return array;
}

class OcrVqa : public Dataset {
 public:
  explicit OcrVqa(const DatasetSources& sources)
      : Dataset("ocr_vqa"),
        files_(name(), sources, {{"OCR_VQA/dataset.json"}, {kImages}, {}}),
        records_(files_.root(0)),
        images_(data_file(sources, kImages), sources.outside_images, kMinSide) {
    check_record_count(name(), num_records());
  }

  int64_t num_records() const override { return records_.size(); }
  std::string file_of(int64_t) const override { return files_.path(0); }
  uint64_t fingerprint() const override { return files_.fingerprint(); }
  std::vector<SourceFile> files() const override { return files_.files(); }

  RawSample read(int64_t record, RandomStream& draws) const override {
    const JsonValue value = records_.at(record);
    const JsonValue questions = texts(value, "questions"), answers = texts(value, "answers");
    if (questions.size() != answers.size())
      value.reject(fmt::format("{} questions and {} answers", questions.size(), answers.size()));
    const auto drawn = static_cast<int64_t>(draws.below(static_cast<uint64_t>(questions.size())));
    RawRound round;
    round.question = clean_question(questions.at(drawn).as_string());
    round.answer = answers.at(drawn).as_string();
    const std::string_view extension = extension_of(value.at("imageURL").as_string());
    round.images.push_back(images_.at(fmt::format("{}{}", records_.id(record), extension)));
    return {{std::move(round)}};
  }

 private:
  AnnotationFiles files_;
  JsonRecords records_;
  ImageFiles images_;
};

}  // namespace

std::unique_ptr<Dataset> open_ocr_vqa(const DatasetSources& sources) {
  return std::make_unique<OcrVqa>(sources);
}

}  // namespace facet
