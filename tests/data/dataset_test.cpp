#include "data/dataset.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/check.h"
#include "dataset_fixture.h"

namespace facet {
namespace {

std::string turns(const std::vector<std::string>& values) {
  std::string text;
  bool asks = false;
  for (const std::string& value : values)
    text += fmt::format(R"({}{{"from":"{}","value":"{}"}})", text.empty() ? "" : ",",
                        (asks = !asks) ? "human" : "gpt", value);
  return R"("conversations":[)" + text + "]";
}

TEST_F(DatasetTest, LlavaReadsBothFilesAndTheFirstRoundOnly) {
  write("llava/detail_23k.json", R"([{"id":"1","image":"1.jpg",)" +
                                     turns({R"(What is\nthis?\n<image>)", "A cat.", "q", "a"}) +
                                     "}]");
  write("llava/complex_reasoning_77k.json",
        R"([{"id":"2","image":"2.jpg",)" + turns({"And this?", "A dog."}) + "}]");
  const auto dataset = open("llava");
  ASSERT_EQ(dataset->num_records(), 2);
  const RawSample first = read(*dataset, 0), second = read(*dataset, 1);
  ASSERT_EQ(first.rounds.size(), 1u);
  EXPECT_EQ(first.rounds[0].question, "What isthis?");
  EXPECT_EQ(first.rounds[0].answer, "A cat.");
  EXPECT_EQ(names(first.rounds[0].images),
            std::vector<std::string>{root_ / "coco/train2017/1.jpg"});
  EXPECT_EQ(second.rounds[0].question, "And this?");
  EXPECT_EQ(names(second.rounds[0].images),
            std::vector<std::string>{root_ / "coco/train2017/2.jpg"});
}

TEST_F(DatasetTest, ARecordWithoutImageIsTextOnly) {
  write_llava("{" + turns({"2 + 2?", "4"}) + R"(},{"image":null,)" + turns({"3 + 3?", "6"}) + "}");
  write("llava/conversation_58k.json", "[{" + turns({"a?", "b", "c?", "d"}) + "}]");
  const auto llava = open("llava"), dial = open("llava_dial");
  for (const int64_t record : {0, 1}) EXPECT_EQ(read(*llava, record).num_images(), 0);
  EXPECT_EQ(read(*dial, 0).num_images(), 0);
  EXPECT_EQ(read(*dial, 0).rounds[1].answer, "d");
}

TEST_F(DatasetTest, LlavaDialShowsTheImageAtItsPlaceholder) {
  write("llava/conversation_58k.json",
        R"([{"image":"7.jpg",)" +
            turns({"Hello", "Hi", R"(<image>\nWhat?)", "A cat", "Sure?", "Yes", "unanswered"}) +
            "}]");
  const auto dataset = open("llava_dial");
  const RawSample sample = read(*dataset, 0);
  ASSERT_EQ(sample.rounds.size(), 3u);
  EXPECT_TRUE(sample.rounds[0].images.empty());
  EXPECT_EQ(names(sample.rounds[1].images),
            std::vector<std::string>{root_ / "coco/train2017/7.jpg"});
  EXPECT_EQ(sample.rounds[1].question, "What?");
  EXPECT_TRUE(sample.rounds[2].images.empty());
  EXPECT_EQ(sample.rounds[2].answer, "Yes");
}

TEST_F(DatasetTest, AWrongNumberOfImagePlacesMakesABadSample) {
  write_llava(R"({"image":"1.jpg",)" + turns({"<image><image>", "a"}) + "},{" +
              turns({"<image> what?", "a"}) + "}");
  write("llava/conversation_58k.json",
        R"([{"image":"1.jpg",)" + turns({"no place", "a"}) + R"(},{"image":"1.jpg",)" +
            turns({"<image>", "a", "<image>", "b"}) + "},{" + turns({"<image>", "a"}) + "}]");
  const auto llava = open("llava"), dial = open("llava_dial");
  for (const int64_t record : {0, 1}) message_of([&] { read(*llava, record); }, ExitCode::kBadData);
  for (const int64_t record : {0, 1, 2})
    message_of([&] { read(*dial, record); }, ExitCode::kBadData);
}

std::string turns_from(const std::vector<std::string>& roles) {
  std::string text;
  for (const std::string& role : roles)
    text += (text.empty() ? "" : ",") + (R"({"from":")" + role + R"(","value":"text"})");
  return R"({"conversations":[)" + text + "]}";
}

TEST_F(DatasetTest, QuestionsAreFromHumansAndAnswersFromGpt) {
  const auto record_error = [&](const std::string& name, const std::vector<std::string>& roles) {
    write_llava(turns_from(roles));
    write("llava/conversation_58k.json", "[" + turns_from(roles) + "]");
    return message_of([&] { read(*open(name), 0); }, ExitCode::kBadData);
  };
  for (const std::string name : {"llava", "llava_dial"}) {
    EXPECT_TRUE(contains(record_error(name, {"gpt", "human", "gpt"}), "turn 0 is from gpt"));
    EXPECT_TRUE(contains(record_error(name, {"human", "human"}), "turn 1 is from human"));
    EXPECT_TRUE(contains(record_error(name, {"system", "human", "gpt"}), "turn 0 is from system"));
    EXPECT_TRUE(contains(record_error(name, {"Human", "gpt"}), "turn 0 is from Human"));
  }
  EXPECT_TRUE(contains(record_error("llava_dial", {"human", "gpt", "gpt", "human"}),
                       "[0].conversations: turn 2 is from gpt"));
  EXPECT_TRUE(contains(record_error("llava_dial", {"human", "gpt", "gpt"}), "turn 2 is from gpt"));
  write_llava(R"({"conversations":[{"value":"q"},{"value":"a"}]})");
  EXPECT_TRUE(contains(message_of([&] { read(*open("llava"), 0); }, ExitCode::kBadData),
                       "\"from\" is missing"));
}

TEST_F(DatasetTest, WhatNobodyUsesDoesNoHarm) {
  write_llava(R"({"id":1,"id":2,"score":NaN,"size":1e999,"n":123456789012345678901234567890,)"
              R"("note":"\ud83d",)" +
              turns({"q", "a"}) + "}");
  EXPECT_EQ(read(*open("llava"), 0).rounds[0].answer, "a");
}

TEST_F(DatasetTest, AKeyThatIsUsedMustNotOccurTwice) {
  write_llava("{" + turns({"q", "a"}) + "},\n{\"image\":\"1.jpg\",\n\"image\":\"2.jpg\"," +
              turns({"q", "a"}) + "}");
  const auto dataset = open("llava");
  EXPECT_EQ(read(*dataset, 0).rounds[0].answer, "a");
  EXPECT_TRUE(contains(message_of([&] { read(*dataset, 1); }, ExitCode::kBadData),
                       "[1]: the key \"image\" occurs twice, again in line 3, column 1"));
}

TEST_F(DatasetTest, JsonLinesAreCalledSo) {
  write("llava/detail_23k.json", "{" + turns({"q", "a"}) + "}\n{" + turns({"q", "a"}) + "}\n");
  write("llava/complex_reasoning_77k.json", "[]");
  const std::string message = message_of([&] { open("llava"); }, ExitCode::kBadData);
  EXPECT_TRUE(contains(message, "JSON lines")) << message;
  EXPECT_TRUE(contains(message, "expected one array")) << message;
}

TEST_F(DatasetTest, CocoCaptionDrawsCaptionAndQuestion) {
  write(
      "coco_caption/dataset.json",
      R"({"dataset":"coco","images":[{"filename":"x.jpg","sentences":[{"raw":"one"},{"raw":"two"},)"
      R"({"raw":"three"}]}]})");
  const auto dataset = open("coco_caption");
  ASSERT_EQ(dataset->num_records(), 1);
  std::set<std::string> captions, questions, pairs;
  for (uint64_t sample = 0; sample < 200; ++sample) {
    const RawRound round = read(*dataset, 0, sample).rounds.at(0);
    EXPECT_EQ(round.answer, read(*dataset, 0, sample).rounds[0].answer);
    EXPECT_EQ(names(round.images), std::vector<std::string>{root_ / "coco/2014/x.jpg"});
    captions.insert(round.answer);
    questions.insert(round.question);
    pairs.insert(round.question + round.answer);
  }
  EXPECT_EQ(captions, (std::set<std::string>{"one", "two", "three"}));
  EXPECT_EQ(questions, (std::set<std::string>{"What?", "Where?", "Why?"}));
  EXPECT_EQ(pairs.size(), 9u);
}

TEST_F(DatasetTest, MiniGpt4ReadsCaptions) {
  write("cc_sbu_align/filter_cap.json",
        R"({"annotations":[{"image_id":"12","caption":"A boat."}]})");
  const auto dataset = open("minigpt4");
  const RawRound round = read(*dataset, 0).rounds.at(0);
  EXPECT_EQ(round.answer, "A boat.");
  EXPECT_EQ(names(round.images), std::vector<std::string>{root_ / "cc_sbu_align/image/12.jpg"});
  const std::vector<std::string> questions = sources().caption_questions;
  EXPECT_NE(std::find(questions.begin(), questions.end(), round.question), questions.end());
}

TEST_F(DatasetTest, MalformedRecordsAreBadSamplesAndNameTheirPlace) {
  write_llava(
      R"({"image":"1.jpg"},7,{"conversations":[{"from":"human","value":"q"}]},{"conversations":5},)"
      R"({"image":5,)" +
      turns({"q", "a"}) +
      R"(},{"conversations":[{"from":"human","value":1},{"from":"gpt","value":2}]})");
  const auto dataset = open("llava");
  for (int64_t record = 0; record < dataset->num_records(); ++record) {
    const std::string message = message_of([&] { read(*dataset, record); }, ExitCode::kBadData);
    EXPECT_TRUE(contains(message, "detail_23k.json")) << message;
  }
}

TEST_F(DatasetTest, MissingFilesAreNamedTogetherWithTheLayout) {
  write("llava/detail_23k.json", "[]");
  fs::remove_all(root_ / "coco");
  const std::string message = message_of([&] { open("llava"); }, ExitCode::kMissingInput);
  EXPECT_TRUE(contains(message, "llava/complex_reasoning_77k.json")) << message;
  EXPECT_TRUE(contains(message, "coco/train2017/")) << message;
  EXPECT_TRUE(contains(message, "--data_path")) << message;
}

TEST_F(DatasetTest, FilesOfAnotherShapeAndEmptyDataSetsAreErrors) {
  write_llava("");
  EXPECT_TRUE(contains(message_of([&] { open("llava"); }, ExitCode::kBadData), "no records"));
  write("llava/detail_23k.json", R"([{"image":)");
  message_of([&] { open("llava"); }, ExitCode::kBadData);
  write("cc_sbu_align/filter_cap.json", R"({"images":[]})");
  EXPECT_TRUE(contains(message_of([&] { open("minigpt4"); }, ExitCode::kBadData), "annotations"));
  write("cc_sbu_align/filter_cap.json", R"({"annotations":{}})");
  EXPECT_TRUE(contains(message_of([&] { open("minigpt4"); }, ExitCode::kBadData), "array"));
}

TEST_F(DatasetTest, FingerprintChangesWithEveryFile) {
  write_llava("{" + turns({"q", "a"}) + "}");
  const uint64_t before = open("llava")->fingerprint();
  EXPECT_EQ(before, open("llava")->fingerprint());
  write("llava/complex_reasoning_77k.json", "[ ]");
  EXPECT_NE(before, open("llava")->fingerprint());
}

TEST_F(DatasetTest, NamesThatThereAreNot) {
  EXPECT_EQ(dataset_names().size(), 13u);
  const std::string message = message_of([&] { open("lava"); }, ExitCode::kUsage);
  EXPECT_TRUE(contains(message, "llava_otter_blend")) << message;
}

// Annotations come from the internet: they must not name any file of the machine.
TEST_F(DatasetTest, ImagesLieBelowTheirDirectory) {
  const auto llava_with = [&](const std::string& image, OutsideImages outside) {
    write_llava(R"({"image": ")" + image +
                R"(", "conversations": [{"from": "human", "value": "<image>What?"},
                                    {"from": "gpt", "value": "This."}]})");
    DatasetSources with = sources();
    with.outside_images = outside;
    return open_dataset("llava", with);
  };
  const std::string directory = (root_ / "coco/train2017").string();
  for (const std::string image : {"/etc/passwd", "../2014/a.jpg", "a/../b.jpg", "a/..", ".."}) {
    const auto dataset = llava_with(image, OutsideImages::kRefused);
    const std::string text = message_of([&] { read(*dataset, 0); }, ExitCode::kBadData);
    EXPECT_TRUE(contains(text, image + " leads out of " + directory)) << text;
    EXPECT_TRUE(contains(text, "--allow_outside_images"));
    const std::string allowed =
        read(*llava_with(image, OutsideImages::kAllowed), 0).rounds[0].images[0].name();
    EXPECT_EQ(allowed, image[0] == '/' ? image : directory + "/" + image);
  }
  for (const std::string image : {"a.jpg", "a/b.jpg", "./a.jpg", "..a/b..jpg", "...jpg"})
    EXPECT_EQ(read(*llava_with(image, OutsideImages::kRefused), 0).rounds[0].images[0].name(),
              directory + "/" + image);
  const auto nul = llava_with("a.jpg\\u0000.png", OutsideImages::kAllowed);
  EXPECT_TRUE(contains(message_of([&] { read(*nul, 0); }, ExitCode::kBadData), "NUL"));
}

}  // namespace
}  // namespace facet
