// otter_mimicit_*, llava_otter_blend and sparkles_dialogue.
#include <algorithm>
#include <map>
#include <set>

#include "data/image_names.h"
#include "data/order.h"
#include "dataset_fixture.h"
#include "io/base64.h"

namespace facet {
namespace {

class MultiImageSets : public DatasetTest {
 protected:
  std::unique_ptr<Dataset> open_with(const std::string& name, int64_t max_images,
                                     PromptStyle style = PromptStyle::kCorrect) const {
    DatasetSources with = sources();
    with.max_images = max_images;
    with.style = style;
    return open_dataset(name, with);
  }
  std::unique_ptr<Dataset> cgd(const std::string& records, int64_t max_images = 8) const {
    write("MIMIC-IT/CGD_instructions.json", R"({"meta":{},"data":{)" + records + "}}");
    return open_with("otter_mimicit_cgd", max_images);
  }
  std::unique_ptr<Dataset> sd(const std::string& records, PromptStyle style) const {
    write("MIMIC-IT/SD.json", R"({"A":"Zg==","B":"Zg==","C":"Zg=="})");
    write("MIMIC-IT/SD_instructions.json", R"({"data":{)" + records + "}}");
    return open_with("otter_mimicit_sd", 2, style);
  }
  std::string coco(int number) const {
    return (root_ / fmt::format("coco/train2017/{:012}.jpg", number)).string();
  }
};

std::string quoted(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "\"" : ",\"") + text + "\"";
  return "[" + list + "]";
}

std::string record(const std::string& id, const std::vector<std::string>& images,
                   const std::vector<std::string>& related = {}) {
  return fmt::format(
      R"("{}":{{"instruction":"q{}","answer":"a{}","image_ids":{},"rel_ins_ids":{}}})", id, id, id,
      quoted(images), quoted(related));
}

std::string cgd_id(int number) { return fmt::format("CGD_IMG_{:012}", number); }

// The questions of a sample, sorted.
std::string questions(const RawSample& sample) {
  std::vector<std::string> texts;
  for (const RawRound& round : sample.rounds) texts.push_back(round.question);
  std::sort(texts.begin(), texts.end());
  return fmt::format("{}", fmt::join(texts, " "));
}

TEST_F(MultiImageSets, HeadsTakeTheRecordsThatBelongToThem) {
  const std::vector<std::string> two = {cgd_id(1), cgd_id(2)};
  const auto dataset = cgd(record("1", two, {"3", "2", "none", "3"}) + "," +
                           record("2", two, {"1"}) + "," + record("3", two, {"4"}) + "," +
                           record("4", {cgd_id(3)}, {"4", "1", "2"}) + "," + record("5", two));
  ASSERT_EQ(dataset->num_records(), 3);
  EXPECT_TRUE(dataset->multi_image());
  EXPECT_EQ(questions(read(*dataset, 0)), "q1 q2 q3");
  EXPECT_EQ(questions(read(*dataset, 1)), "q4");  // lists itself, and records that are taken
  EXPECT_EQ(questions(read(*dataset, 2)), "q5");
}

TEST_F(MultiImageSets, RoundsAreShuffledBehindTheImages) {
  const auto dataset = cgd(record("1", {cgd_id(9), cgd_id(2)}, {"2", "3"}) + "," + record("2", {}) +
                           "," + record("3", {cgd_id(5)}));
  std::map<std::string, int> orders;
  for (uint64_t sample = 0; sample < 600; ++sample) {
    const RawSample drawn = read(*dataset, 0, sample);
    EXPECT_EQ(drawn.image_numbers, ImageNumbers::kInText);
    EXPECT_EQ(names(drawn.rounds[0].images), (std::vector<std::string>{coco(9), coco(2)}));
    EXPECT_EQ(drawn.num_images(), 2);
    std::string order;
    for (const RawRound& round : drawn.rounds) order += round.question + round.answer;
    ++orders[order];
  }
  EXPECT_EQ(orders.size(), 6u);
  for (const auto& [order, count] : orders) EXPECT_GT(count, 60) << order;
}

TEST_F(MultiImageSets, ConversationsWithTooManyImagesAreLeftOut) {
  const auto dataset = cgd(
      record("1", {cgd_id(1), cgd_id(2), cgd_id(3)}, {"2"}) + "," + record("2", {cgd_id(1)}, {"1"}),
      2);
  ASSERT_EQ(dataset->num_records(), 1);
  EXPECT_EQ(questions(read(*dataset, 0)), "q2");  // is not lost with the head that was left out
  EXPECT_TRUE(contains(message_of(
                           [&] {
                             cgd(record("1", {cgd_id(1), cgd_id(2)}), 1);
                           },
                           ExitCode::kBadData),
                       "all its conversations are left out:\n  more images than "
                       "--max_num_image_per_sample 1: 1, the first is 1"));
}

TEST_F(MultiImageSets, ABadRecordOfMimicItIsOneBadSample) {
  const std::string good = "," + record("9", {cgd_id(1)});
  const std::pair<std::string, const char*> cases[] = {
      {record("1", {"CGD_IMG_"}), "the image id CGD_IMG_ is not"},
      {record("1", {"SD_IMG_000000000001"}), "the image id SD_IMG_000000000001 is not"},
      {record("1", {"CGD_IMG_../../x"}), "leads out of"},
      {R"("1":7)", "object"},
      {R"("1":{"instruction":"q","answer":"a","image_ids":"x","rel_ins_ids":[]})",
       "image_ids: expected an array"},
      {R"("1":{"instruction":"q","answer":"a","image_ids":[],"rel_ins_ids":null})",
       "rel_ins_ids: expected an array"},
      {R"("1":{"instruction":"q","answer":"a","image_ids":[1],"rel_ins_ids":[]})",
       "expected a string"},
      {R"("1":{"instruction":"q","image_ids":[],"rel_ins_ids":[]})", "\"answer\" is missing"},
      {R"("1":{"answer":"a","image_ids":[],"rel_ins_ids":[]})", "\"instruction\" is missing"},
      {record("1", {cgd_id(1)}, {"2"}) + R"(,"2":{"instruction":5})", "expected a string"},
      {record("1", {cgd_id(1)}) + "," + record("1", {cgd_id(2)}), "the id 1 occurs twice"}};
  for (const auto& [records, part] : cases) {
    const auto dataset = cgd(records + good);
    const std::string message = message_of([&] { read(*dataset, 0); }, ExitCode::kBadData);
    EXPECT_TRUE(contains(message, part)) << message;
    EXPECT_EQ(questions(read(*dataset, dataset->num_records() - 1)), "q9");
  }
  write("MIMIC-IT/CGD_instructions.json", R"({"data":[]})");
  EXPECT_TRUE(contains(message_of([&] { open("otter_mimicit_cgd"); }, ExitCode::kBadData),
                       "expected an object of records"));
}

TEST_F(MultiImageSets, ImagesThatTheirFileLacksAreLeftOutAndTold) {
  const std::string records = record("1", {"A", "lost"}) + "," + record("2", {"lost"}, {"3"}) +
                              "," + record("3", {"B"}) + "," + record("4", {}) + "," +
                              record("5", {"A", "B", "C"}) + "," + record("6", {"A", "B", "lost"});
  for (const PromptStyle style : {PromptStyle::kCorrect, PromptStyle::kVisualChat}) {
    testing::internal::CaptureStdout();
    const auto dataset = sd(records, style);
    const std::string told = testing::internal::GetCapturedStdout();
    EXPECT_TRUE(contains(told, "otter_mimicit_sd: 2 images of its conversations are not in " +
                                   (root_ / "MIMIC-IT/SD.json").string() +
                                   " and are left out, the first is lost"))
        << told;
    ASSERT_EQ(dataset->num_records(), 3);  // 2, 4 and 5: none, and more than two
    EXPECT_EQ(names(read(*dataset, 0).rounds[0].images),
              std::vector<std::string>{(root_ / "MIMIC-IT/SD.json: image A").string()});
    EXPECT_EQ(questions(read(*dataset, 1)), "q3");
    EXPECT_EQ(questions(read(*dataset, 2)), "q6");
  }
}

TEST_F(MultiImageSets, TheIdsOfImagesBelongToTheFingerprint) {
  const auto fingerprint = [&](const std::string& images) {
    write("MIMIC-IT/TVC.json", images);
    write("MIMIC-IT/TVC_instructions.json", R"({"data":{)" + record("1", {"A"}) + "}}");
    return open("otter_mimicit_tvc")->fingerprint();
  };
  EXPECT_EQ(fingerprint(R"({"A":"Zg=="})"), fingerprint(R"({ "A" : "Zm8=" })"));
  EXPECT_NE(fingerprint(R"({"A":"Zg=="})"), fingerprint(R"({"A":"Zg==","B":"Zg=="})"));
}

TEST_F(MultiImageSets, TheIndexOfTheImagesIsMadeBeforehand) {
  const std::string images = R"({"A":"Zg=="})";
  write("MIMIC-IT/SN.json", images);
  write("MIMIC-IT/SN_instructions.json", R"({"data":{)" + record("1", {"A"}) + "}}");
  DatasetSources with = sources();
  with.index_directory = (root_ / "index").string();
  for (const char* name : {"llava", "otter_mimicit_cgd", "otter_mimicit_vst"})
    index_files({name, name}, with);
  EXPECT_FALSE(fs::exists(root_ / "index")) << "no such images, or not there";
  index_files({"otter_mimicit_sn", "otter_mimicit_sn"}, with);
  EXPECT_TRUE(fs::exists(root_ / "index/SN.json.index"));
  // Of the same size and time: only who reads the whole file again notices.
  const auto time = fs::last_write_time(root_ / "MIMIC-IT/SN.json");
  write("MIMIC-IT/SN.json", std::string(images.size(), ' '));
  fs::last_write_time(root_ / "MIMIC-IT/SN.json", time);
  EXPECT_EQ(open_dataset("otter_mimicit_sn", with)->num_records(), 1);
  EXPECT_TRUE(contains(message_of([&] { open("otter_mimicit_sn"); }, ExitCode::kBadData),
                       "expected an object"));
}

TEST_F(MultiImageSets, MissingFilesOfImagesAreNamed) {
  write("MIMIC-IT/VST_instructions.json", R"({"data":{}})");
  const std::string message =
      message_of([&] { open("otter_mimicit_vst"); }, ExitCode::kMissingInput);
  EXPECT_TRUE(contains(message, "not found: " + (root_ / "MIMIC-IT/VST.json").string())) << message;
}

TEST_F(MultiImageSets, RecordsWithSeveralImagesAreNotConcatenated) {
  std::vector<std::unique_ptr<Dataset>> datasets;
  datasets.push_back(cgd(record("1", {cgd_id(1)})));
  DatasetRequest request;
  request.concatenate = 2;
  EXPECT_TRUE(
      contains(message_of([&] { SampleTable(datasets, {request}, 1, 1); }, ExitCode::kConfig),
               "never concatenated"));
}

class Blend : public MultiImageSets {
 protected:
  static std::string talk(int image, const std::string& word) {
    return fmt::format(R"({{"image":"{:012}.jpg","conversations":[)"
                       R"({{"from":"human","value":"<image>\n{}1"}},{{"from":"gpt","value":"x"}},)"
                       R"({{"from":"human","value":"{}2"}},{{"from":"gpt","value":"y"}}]}})",
                       image, word, word);
  }
  std::unique_ptr<Dataset> blend(const std::string& records) const {
    write("llava/detail_23k.json", "[" + talk(1, "a") +
                                       R"(,{"conversations":[]},{"image":5},7,{"image":null},)" +
                                       talk(2, "b") + "]");
    write("llava/complex_reasoning_77k.json", "[" + talk(1, "c") + "]");
    write("llava/conversation_58k.json", R"([{"image":"000000000003.jpg","conversations":5}])");
    write("MIMIC-IT/CGD_instructions.json", R"({"data":{)" + records + "}}");
    return open_with("llava_otter_blend", 3);
  }
};

TEST_F(Blend, DrawsConversationsOfEachImageThenOfTheHead) {
  const auto dataset = blend(record("1", {cgd_id(1), cgd_id(2)}, {"2"}) + "," + record("2", {}));
  ASSERT_EQ(dataset->num_records(), 1);
  std::set<std::string> first, second, otter;
  for (uint64_t sample = 0; sample < 400; ++sample) {
    const RawSample drawn = read(*dataset, 0, sample);
    EXPECT_EQ(drawn.image_numbers, ImageNumbers::kInText);
    EXPECT_EQ(names(drawn.rounds[0].images), std::vector<std::string>{coco(1)});
    std::string parts[3];
    int64_t shown = 0;
    for (const RawRound& round : drawn.rounds) {
      const char kind = round.question[0];
      std::string& part = parts[kind == 'q' ? 2 : kind == 'b' ? 1 : 0];
      for (const ImageRef& image : round.images)
        EXPECT_EQ(image.name(), coco(static_cast<int>(++shown)));
      EXPECT_TRUE(round.images.empty() || part.empty()) << "not its first round";
      part += round.question + " ";
    }
    EXPECT_EQ(shown, 2);
    first.insert(parts[0]);
    second.insert(parts[1]);
    otter.insert(parts[2]);
  }
  EXPECT_EQ(first, (std::set<std::string>{"a1 a2 ", "c1 c2 ", "a1 a2 c1 c2 ", "c1 c2 a1 a2 "}));
  EXPECT_EQ(second, (std::set<std::string>{"", "b1 b2 "}));
  EXPECT_EQ(otter, (std::set<std::string>{"q1 ", "q2 ", "q1 q2 ", "q2 q1 "}));
}

TEST_F(Blend, HeadsNeedConversationsAboutAllImagesButTheLast) {
  const auto dataset = blend(record("1", {cgd_id(7), cgd_id(1)}, {"2"}) + "," +
                             record("2", {cgd_id(1), cgd_id(7)}) + "," + record("3", {cgd_id(7)}) +
                             "," + record("4", {cgd_id(1), cgd_id(1), cgd_id(2), cgd_id(2)}) + "," +
                             record("5", {cgd_id(1), cgd_id(1)}) + "," + record("6", {"x"}) + "," +
                             record("7", {cgd_id(3), cgd_id(1)}));
  ASSERT_EQ(dataset->num_records(), 5);  // without 1 and 4
  EXPECT_EQ(read(*dataset, 0).rounds.back().question, "q2");
  EXPECT_EQ(names(read(*dataset, 1).rounds[0].images), std::vector<std::string>{coco(7)});
  for (uint64_t sample = 0; sample < 20; ++sample)
    EXPECT_EQ(read(*dataset, 2, sample).num_images(), 2);  // an image shown twice
  EXPECT_TRUE(contains(message_of([&] { read(*dataset, 3); }, ExitCode::kBadData), "image id x"));
  EXPECT_TRUE(contains(message_of([&] { read(*dataset, 4); }, ExitCode::kBadData),
                       "conversation_58k.json: [0].conversations"));
}

class Sparkles : public MultiImageSets {
 protected:
  Sparkles() {
    for (const char* name : {"CC/images/12", "CC/images/123", "VG/images/7", "CC/images/d/5"})
      write(std::string("SparklesDialogue") + name + ".jpg", "");
    write_dialogues("VG", "");
  }
  void write_dialogues(const std::string& part, const std::string& records) const {
    write("SparklesDialogue" + part + "/annotations/SparklesDialogue" + part + ".json",
          "[" + records + "]");
  }
  static std::string turn(const std::string& role, const std::string& content,
                          const std::string& images = "") {
    return R"({"role":")" + role + R"(","content":")" + content + "\"" +
           (images.empty() ? "" : ",\"images\":" + images) + "}";
  }
  static std::string dialogue(const std::vector<std::string>& turns) {
    return fmt::format(R"({{"dialogue":[{}]}})", fmt::join(turns, ","));
  }
  std::unique_ptr<Dataset> sparkles(const std::string& records,
                                    PromptStyle style = PromptStyle::kCorrect) const {
    write_dialogues("CC", records);
    return open_with("sparkles_dialogue", 2, style);
  }
};

const char* const kOne = R"([{"image_id":"12"}])";
const char* const kBoth = R"([{"image_id":"12","caption":1},{"image_id":123}])";

TEST_F(Sparkles, ImagesGetNamesOfOneStyle) {
  const auto dataset = sparkles(
      dialogue({turn("user", R"(see<Img><ImageHere></Img> IMAGE#12\n. what is it? say)", kOne),
                turn("assistant", "IMAGE#12 shows the USA! ok. IMAGE#123."),
                turn("user", "IMAGE#123 or IMAGE#12?", R"([{"image_id":"123"}])"),
                turn("assistant", "both: IMAGE#12, IMAGE#123")}));
  std::set<std::string> seen;
  for (uint64_t sample = 0; sample < 50; ++sample) {
    const RawSample drawn = read(*dataset, 0, sample);
    std::string text;
    for (const RawRound& round : drawn.rounds) text += round.question + "|" + round.answer + "|";
    seen.insert(text);
    EXPECT_EQ(drawn.image_numbers, ImageNumbers::kInText);
    ASSERT_EQ(drawn.rounds.size(), 2u);
    EXPECT_EQ(names(drawn.rounds[0].images),
              std::vector<std::string>{root_ / "SparklesDialogueCC/images/12.jpg"});
    EXPECT_EQ(names(drawn.rounds[1].images),
              std::vector<std::string>{root_ / "SparklesDialogueCC/images/123.jpg"});
  }
  // 123 is not shown yet in the first answer: its begin is taken for 12, as the rule has it.
  EXPECT_EQ(seen, (std::set<std::string>{
                      "See image a. What is it? Say|Image a shows the USA! Ok. Image a3.|"
                      "Image b or image a?|Both: image a, image b|",
                      "See image A. What is it? Say|Image A shows the USA! Ok. Image A3.|"
                      "Image B or image A?|Both: image A, image B|",
                      "See the first image. What is it? Say|"
                      "The first image shows the USA! Ok. The first image3.|"
                      "The second image or the first image?|"
                      "Both: the first image, the second image|"}));
}

TEST_F(Sparkles, WhatIsLeftOut) {
  const std::string ask = turn("user", "q", kOne), reply = turn("assistant", "a");
  const auto dataset = sparkles(fmt::format(
      "{}",
      fmt::join(
          std::vector<std::string>{
              dialogue({ask}), dialogue({ask, reply, ask}), dialogue({reply, ask}),
              dialogue({ask, ask}), dialogue({turn("human", "q"), reply}),
              dialogue({turn("user", "q", R"([{"image_id":"99"}])"), reply}),
              dialogue({turn("user", "q", kBoth), reply, ask, reply}),
              dialogue(
                  {turn("user", "q", "[{\"image_id\":\"" + std::string(300, '9') + "\"}]"), reply}),
              dialogue({turn("user", "good"), reply})},
          ",")));
  ASSERT_EQ(dataset->num_records(), 1);
  EXPECT_EQ(read(*dataset, 0).rounds[0].question, "Good");
  write_dialogues("VG", dialogue({turn("user", "vg", R"([{"image_id":7}])"), reply}) + "," +
                            dialogue({turn("user", "q", kOne), reply}));
  const auto both = sparkles(dialogue({turn("user", "cc", R"([{"image_id":"d/5"}])"), reply}));
  ASSERT_EQ(both->num_records(), 2);
  EXPECT_TRUE(contains(both->file_of(0), "CC.json") && contains(both->file_of(1), "VG.json"));
  EXPECT_EQ(names(read(*both, 1).rounds[0].images),
            std::vector<std::string>{root_ / "SparklesDialogueVG/images/7.jpg"});
}

TEST_F(Sparkles, ABadDialogueIsOneBadSample) {
  const std::string reply = turn("assistant", "a");
  const std::pair<std::string, const char*> cases[] = {
      {"7", "object"},
      {"{}", "\"dialogue\" is missing"},
      {R"({"dialogue":{}})", "array of turns"},
      {dialogue({turn("user", "q", R"({"image_id":"12"})"), reply}), "array of images"},
      {dialogue({turn("user", "q", R"([{"id":"12"}])"), reply}), "\"image_id\" is missing"},
      {dialogue({turn("user", "q", R"([{"image_id":"../12"}])"), reply}), "leads out of"},
      {dialogue({turn("user", "q"), turn("assistant", "a", kOne)}), "an answer with images"},
      {dialogue({R"({"role":"user"})", reply}), "\"content\" is missing"}};
  for (const auto& [record, part] : cases) {
    const auto dataset = sparkles(record + "," + dialogue({turn("user", "good"), reply}));
    ASSERT_EQ(dataset->num_records(), 2) << part;
    const std::string message = message_of([&] { read(*dataset, 0); }, ExitCode::kBadData);
    EXPECT_TRUE(contains(message, part)) << message;
  }
  EXPECT_TRUE(read(*sparkles(dialogue({})), 0).rounds.empty());
}

TEST(ImageNames, OfAnyNumber) {
  EXPECT_EQ(image_name(ImageNaming::kSmallLetters, 0), "image a");
  EXPECT_EQ(image_name(ImageNaming::kCapitalLetters, 25), "image Z");
  EXPECT_EQ(image_name(ImageNaming::kSmallLetters, 26), "image aa");
  EXPECT_EQ(image_name(ImageNaming::kSmallLetters, 27 * 26), "image aaa");
  const std::pair<int, const char*> ordinals[] = {
      {0, "first"}, {7, "eighth"}, {11, "twelfth"}, {12, "13th"},   {20, "21st"},
      {21, "22nd"}, {22, "23rd"},  {23, "24th"},    {110, "111th"}, {100, "101st"}};
  for (const auto& [index, word] : ordinals)
    EXPECT_EQ(image_name(ImageNaming::kOrdinals, index), fmt::format("the {} image", word));
}

TEST(ImageNames, TheLongestIdCountsOrTheFirstThatWasShown) {
  const std::vector<std::string> ids = {"12", "123", "12"};
  const auto named = [&](PromptStyle style) {
    return name_images("IMAGE#123 IMAGE#12, IMAGE#9 image#12 IMAGE#IMAGE#12", ids,
                       ImageNaming::kSmallLetters, style);
  };
  EXPECT_EQ(named(PromptStyle::kCorrect), "image b image a, IMAGE#9 image#12 IMAGE#image a");
  EXPECT_EQ(named(PromptStyle::kVisualChat), "image a3 image a, IMAGE#9 image#12 IMAGE#image a");
}

TEST(ImageNames, SentencesBeginWithACapital) {
  const std::pair<const char*, const char*> correct[] = {
      {"", ""},
      {"a. b? c! d, e", "A. B? C! D, e"},
      {" a.  b.\nc", " a.  b.\nC"},
      {"3d is. \u00e9t\u00c9", "3d is. \u00c9t\u00c9"},
      {"iPhone. USA_x. _a", "IPhone. USA_x. _a"},
      {"\u0434\u0430. \u043d\u0415\u0422", "\u0414\u0430. \u041d\u0415\u0422"},
      {"e\u0301A.\u00a0bB.b", "E\u0301A.\u00a0BB.b"},
      {"\u6f22\u5b57. x", "\u6f22\u5b57. X"}};
  for (const auto& [text, expected] : correct)
    EXPECT_EQ(capitalise_sentences(text, PromptStyle::kCorrect), expected);
  EXPECT_EQ(capitalise_sentences("USA and UK. BIG Dog! \u00c9T\u00c9", PromptStyle::kVisualChat),
            "Usa and UK. Big Dog! \u00c9t\u00e9");
  EXPECT_EQ(capitalise_sentences("ok \xff no", PromptStyle::kCorrect), "Ok \xff no");
}

}  // namespace
}  // namespace facet
