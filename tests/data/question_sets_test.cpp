// aokvqa and ocr_vqa.
#include <set>

#include "data/probe.h"
#include "dataset_fixture.h"

namespace facet {
namespace {

class QuestionSets : public DatasetTest {
 protected:
  std::unique_ptr<Dataset> aokvqa(const std::string& records) const {
    write("aokvqa/annotations/aokvqa_v1p0_train.json", "[" + records + "]");
    DatasetSources with = sources();
    with.why_phrases = {"Why?", "How so?"};
    return open_dataset("aokvqa", with);
  }
  std::unique_ptr<Dataset> ocr(const std::string& records) const {
    fs::create_directories(root_ / "OCR_VQA/images");
    write("OCR_VQA/dataset.json", "{" + records + "}");
    return open("ocr_vqa");
  }
};

TEST_F(QuestionSets, AokvqaAsksForReasons) {
  const auto dataset = aokvqa(
      R"({"image_id":299207,"question":"What <image>is\nit?","choices":["a cat","a dog"],)"
      R"("correct_choice_idx":1,"rationales":["It barks.","It has a tail."],"question_id":"x"},)"
      R"({"image_id":"42","question":"q","choices":["c"],"correct_choice_idx":0,"rationales":["r"]})");
  EXPECT_FALSE(dataset->multi_image());
  std::set<std::string> questions;
  for (uint64_t sample = 0; sample < 50; ++sample) {
    const RawSample drawn = read(*dataset, 0, sample);
    EXPECT_EQ(drawn.image_numbers, ImageNumbers::kAfterEncoding);
    questions.insert(drawn.rounds.at(0).question);
    EXPECT_EQ(drawn.rounds[0].answer, "The answer is a dog. Because It barks. It has a tail.");
    EXPECT_EQ(names(drawn.rounds[0].images),
              std::vector<std::string>{root_ / "coco/train2017/000000299207.jpg"});
  }
  EXPECT_EQ(questions, (std::set<std::string>{"What isit? Why?", "What isit? How so?"}));
  EXPECT_EQ(names(read(*dataset, 1).rounds[0].images),
            std::vector<std::string>{root_ / "coco/train2017/000000000042.jpg"});
}

TEST_F(QuestionSets, AokvqaNamesWhatIsWrong) {
  const std::string before = R"({"image_id":1,"question":"q","choices":)";
  const std::pair<const char*, const char*> cases[] = {
      {R"(["a"],"rationales":["r"]})",
       "\"correct_choice_idx\" is missing"},  // as in the test split
      {R"(["a"],"correct_choice_idx":1,"rationales":["r"]})", "there are 1 choices"},
      {R"(["a"],"correct_choice_idx":-1,"rationales":["r"]})", "there are 1 choices"},
      {R"([],"correct_choice_idx":0,"rationales":["r"]})", "there are 0 choices"},
      {R"("a","correct_choice_idx":0,"rationales":["r"]})", "array of choices"},
      {R"(["a"],"correct_choice_idx":0,"rationales":[]})", "at least one reason"},
      {R"(["a"],"correct_choice_idx":0,"rationales":"r"})", "at least one reason"},
      {R"(["a"],"correct_choice_idx":0,"rationales":[1]})", "expected a string"},
      {R"([1],"correct_choice_idx":0,"rationales":["r"]})", "expected a string"},
      {R"(["a"],"correct_choice_idx":0,"correct_choice_idx":0,"rationales":["r"]})",
       "occurs twice"}};
  for (const auto& [rest, part] : cases) {
    const auto dataset = aokvqa(before + rest);
    const std::string message = message_of([&] { read(*dataset, 0); }, ExitCode::kBadData);
    EXPECT_TRUE(contains(message, part)) << message;
    EXPECT_TRUE(contains(message, "aokvqa_v1p0_train.json: [0]")) << message;
  }
  const auto negative = aokvqa(R"({"image_id":-1,"question":"q","choices":["a"],)"
                               R"("correct_choice_idx":0,"rationales":["r"]})");
  EXPECT_TRUE(contains(message_of([&] { read(*negative, 0); }, ExitCode::kBadData), "negative"));
}

TEST_F(QuestionSets, OcrVqaDrawsAQuestionWithItsAnswer) {
  const auto dataset =
      ocr(R"("0761183272":{"imageURL":"http://x/I/51h.jpg","questions":["Who?\n","What?"],)"
          R"("answers":["Sandra","A \u00e9dition"],"split":2},)"
          R"("b":{"imageURL":"http://x/I.d/none","questions":["q"],"answers":["a"]},)"
          R"("c":{"imageURL":"http://x/.png","questions":["q"],"answers":["a"]},)"
          R"("d":{"imageURL":"x.tar.PNG?size=1","questions":["q"],"answers":["a"]})");
  ASSERT_EQ(dataset->num_records(), 4);
  std::set<std::string> rounds;
  for (uint64_t sample = 0; sample < 50; ++sample) {
    const RawRound round = read(*dataset, 0, sample).rounds.at(0);
    rounds.insert(round.question + round.answer);
    EXPECT_EQ(names(round.images),
              std::vector<std::string>{root_ / "OCR_VQA/images/0761183272.jpg"});
  }
  EXPECT_EQ(rounds, (std::set<std::string>{"Who?Sandra", "What?A \u00e9dition"}));
  const char* files[] = {"b", "c", "d.PNG?size=1"};
  for (const int64_t record : {1, 2, 3})
    EXPECT_EQ(names(read(*dataset, record).rounds[0].images),
              std::vector<std::string>{root_ / "OCR_VQA/images" / files[record - 1]});
}

TEST_F(QuestionSets, OcrVqaNamesWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("k":{"imageURL":"x.jpg","questions":["q"],"answers":[]})", "at least one text"},
      {R"("k":{"imageURL":"x.jpg","questions":[],"answers":[]})", "at least one text"},
      {R"("k":{"imageURL":"x.jpg","questions":["q","p"],"answers":["a"]})",
       "2 questions and 1 answers"},
      {R"("k":{"questions":["q"],"answers":["a"]})", "\"imageURL\" is missing"},
      {R"("k":{"imageURL":"x.jpg","questions":["q"],"answers":[null]})", "expected a string"},
      {R"("k":7)", "object"},
      {R"("../k":{"imageURL":"x.jpg","questions":["q"],"answers":["a"]})", "leads out of"},
      {R"("k":{"imageURL":"x.jpg","questions":["q"],"answers":["a"]},"k":{"imageURL":"x.jpg",)"
       R"("questions":["q"],"answers":["a"]})",
       "the id k occurs twice"}};
  for (const auto& [records, part] : cases) {
    const auto dataset = ocr(records);
    const std::string message = message_of([&] { read(*dataset, 0); }, ExitCode::kBadData);
    EXPECT_TRUE(contains(message, part)) << message;
  }
  EXPECT_TRUE(contains(message_of([&] { ocr(""); }, ExitCode::kBadData), "no records"));
  write("OCR_VQA/dataset.json", "[]");
  EXPECT_TRUE(
      contains(message_of([&] { open("ocr_vqa"); }, ExitCode::kBadData), "object of records"));
}

// The publisher's server sends a single pixel for a cover that is gone.
TEST_F(QuestionSets, OcrVqaRefusesSinglePixels) {
  const auto dataset = ocr(R"("k":{"imageURL":"x.png","questions":["q"],"answers":["a"]})");
  const auto picture = [&](const char* name) {
    fs::copy(fs::path("tests/golden/data/images") / name, root_ / "OCR_VQA/images/k.png",
             fs::copy_options::overwrite_existing);
    return read(*dataset, 0).rounds[0].images[0];
  };
  for (const char* name : {"one_pixel.png", "one_row.png", "one_column.png"}) {
    const ImageRef image = picture(name);
    EXPECT_TRUE(
        contains(message_of([&] { load_image(image, 1 << 20); }, ExitCode::kBadData), "k.png: "))
        << name;
  }
  EXPECT_EQ(load_image(picture("three.png"), 1 << 20).width, 3);
}

}  // namespace
}  // namespace facet
