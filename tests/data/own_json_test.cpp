// json:PATH, a user's own records.
#include <algorithm>
#include <chrono>

#include "data/chat_sample_builder.h"
#include "data/record_index.h"
#include "dataset_fixture.h"
#include "golden.h"

namespace facet {
namespace {

class OwnJson : public DatasetTest {
 protected:
  std::string path(const std::string& file) const { return (root_ / file).string(); }
  std::unique_ptr<Dataset> open_own(const std::string& file, const DatasetSources& with) const {
    return open_dataset(choose_datasets({"json:" + path(file)})[0], with);
  }
  std::unique_ptr<Dataset> own(const std::string& text, const std::string& file = "own.jsonl") {
    write(file, text);
    return open_own(file, sources());
  }
  std::string bad(const Dataset& dataset, int64_t record) const {
    return message_of([&] { read(dataset, record); }, ExitCode::kBadData);
  }
};

std::string turn(const char* from, const char* text) {
  return fmt::format(R"({{"from":"{}","value":"{}"}})", from, text);
}

TEST_F(OwnJson, TheTwoFormsOfConversationsAreRead) {
  const auto dataset = own(
      R"({"image":"a.jpg","conversations":[{"from":"human","value":"What?\n<image>"},{"from":"gpt","value":"A cat."},{"from":"human","value":"Open"}]})"
      "\n"
      R"({"image":["a.jpg","/b/c.jpg"],"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"A <image>?"},{"role":"assistant","content":"Yes"},{"role":"user","content":"<image>B"},{"role":"assistant","content":"No"}]})"
      "\n"
      R"({"image":null,"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]})");
  ASSERT_EQ(dataset->num_records(), 3);
  const RawSample first = read(*dataset, 0);
  ASSERT_EQ(first.rounds.size(), 1U);
  EXPECT_EQ(first.rounds[0].question, "What?");
  EXPECT_EQ(names(first.rounds[0].images), std::vector<std::string>{path("a.jpg")});
  EXPECT_FALSE(first.system_text.has_value());
  EXPECT_TRUE(contains(bad(*dataset, 1), "/b/c.jpg leads out of " + root_.string()));
  EXPECT_EQ(read(*dataset, 2).num_images(), 0);
  DatasetSources with = sources();
  with.outside_images = OutsideImages::kAllowed;
  with.image_root = "/images";
  const auto anywhere = open_own("own.jsonl", with);
  const RawSample second = read(*anywhere, 1);
  ASSERT_EQ(second.rounds.size(), 2U);
  EXPECT_EQ(second.system_text, "Be brief.");
  EXPECT_EQ(names(second.rounds[0].images), std::vector<std::string>{"/images/a.jpg"});
  EXPECT_EQ(names(second.rounds[1].images), std::vector<std::string>{"/b/c.jpg"});
}

TEST_F(OwnJson, WithoutPlacesAllImagesStandBeforeTheFirstQuestion) {
  const std::string turns = "[" + turn("human", "Q") + "," + turn("gpt", "A") + "," +
                            turn("human", "R") + "," + turn("gpt", "B") + "]";
  const auto dataset = own(R"({"image":["a.jpg","b.jpg"],"conversations":)" + turns + "}");
  const RawSample sample = read(*dataset, 0);
  EXPECT_EQ(names(sample.rounds[0].images),
            (std::vector<std::string>{path("a.jpg"), path("b.jpg")}));
  EXPECT_TRUE(sample.rounds[1].images.empty());
}

TEST_F(OwnJson, ABadLineIsOneBadSampleAndNamedByItsNumber) {
  const std::string good = R"({"messages":[{"role":"user","content":"Q"},)"
                           R"({"role":"assistant","content":"A"}]})";
  const auto dataset =
      own(good + "\n\n{\"messages\":[\noops\n" + good + "\n" + R"({"messages":[]})" + "\n" +
          R"({"conversations":[{"from":"bot","value":"x"}]})" + "\n{}\n" + R"({"image":7,)" +
          good.substr(1) + "\n" + R"({"image":["a","b"],)" + good.substr(1, 39) + "<image>" +
          good.substr(40) + "\n" + good);
  EXPECT_EQ(dataset->num_records(), 10);
  for (const auto& [record, line, part] :
       std::vector<std::tuple<int64_t, int, const char*>>{{1, 3, "not valid JSON"},
                                                          {2, 4, "not valid JSON"},
                                                          {4, 6, "at least a question"},
                                                          {5, 7, "the role bot is none of"},
                                                          {6, 8, "`conversations`"},
                                                          {7, 9, "image: expected a string"},
                                                          {8, 10, "1 image placeholders for 2"}}) {
    const std::string message = bad(*dataset, record);
    EXPECT_TRUE(contains(message, fmt::format("{}, line {}:", path("own.jsonl"), line))) << message;
    EXPECT_TRUE(contains(message, part)) << message;
  }
  for (const int64_t record : {0, 3, 9}) EXPECT_EQ(read(*dataset, record).rounds.size(), 1U);
}

TEST_F(OwnJson, TheOrderOfRolesIsChecked) {
  const auto conversation = [&](const std::string& turns) {
    const auto dataset = own(R"({"conversations":[)" + turns + "]}");
    return bad(*dataset, 0);
  };
  const std::string q = turn("human", "Q"), a = turn("gpt", "A"), s = turn("system", "S");
  for (const std::string& turns : {a + "," + q, q + "," + q, q + "," + a + "," + a, s + "," + s,
                                   q + "," + s, q + "," + a + "," + s})
    EXPECT_TRUE(contains(conversation(turns), "by turns")) << turns;
  EXPECT_TRUE(contains(conversation(s + "," + q), "at least a question and an answer"));
}

// Ids, labels and pixels of the same records, read as llava_dial and as own data.
TEST_F(OwnJson, RecordsOfLlavaDialBecomeTheSameSamples) {
  const fs::path images = fs::path(kGoldenDir) / "images";
  fs::copy(images / "420.jpg", root_ / "coco/train2017/1.jpg");
  fs::copy(images / "444.jpg", root_ / "coco/train2017/2.jpg");
  std::string lines, array;
  for (const char* image : {"1.jpg", "2.jpg"}) {
    const std::string record =
        fmt::format(R"({{"image":"{}","conversations":[{},{},{},{},{}]}})", image,
                    turn("human", "What is it?\\n<image>"), turn("gpt", "A thing."),
                    turn("human", "Sure?"), turn("gpt", "Yes."), turn("human", "Open?"));
    lines += record + "\n";
    array += (array.empty() ? "[" : ",\n") + record;
  }
  write("llava/conversation_58k.json", array + "]");
  write("own.jsonl", lines);
  write("own.json", array + "]");
  const auto published = open("llava_dial");
  DatasetSources with = sources();
  with.image_root = path("coco/train2017");
  for (const PromptStyle style : {PromptStyle::kCorrect, PromptStyle::kVisualChat}) {
    const Tokenizer tokenizer(kGoldenDir, style);
    const PromptBuilder prompt(tokenizer, {style, "System.\n\n", 4, 4096});
    const ImagePreprocessor preprocessor(ImagePreprocessConfig{}, 8);
    const ChatSampleBuilder builder(tokenizer, prompt, preprocessor, 1 << 20);
    for (const char* file : {"own.jsonl", "own.json"}) {
      const auto own = open_own(file, with);
      ASSERT_EQ(own->num_records(), published->num_records());
      for (int64_t r = 0; r < own->num_records(); ++r) {
        PreparedSample expected, sample;
        build_checked(builder, read(*published, r), 8, expected);
        build_checked(builder, read(*own, r), 8, sample);
        EXPECT_EQ(sample.token_ids, expected.token_ids);
        EXPECT_EQ(sample.labels, expected.labels);
        EXPECT_EQ(sample.pixels, expected.pixels);
      }
    }
  }
}

TEST_F(OwnJson, ASampleMayHaveASystemTextOfItsOwn) {
  const Tokenizer tokenizer(kGoldenDir, PromptStyle::kCorrect);
  const auto ids = [&](const std::string& configured, const std::optional<std::string>& own) {
    const PromptBuilder prompt(tokenizer, {PromptStyle::kCorrect, configured, 4, 4096});
    const std::vector<Round> rounds = {{"Q", "A", 0}, {"R", "B", 0}};
    return prompt.tokenize(rounds, ImageNumbers::kAfterEncoding, own).token_ids;
  };
  EXPECT_EQ(ids("System.\n\n", "Be brief. \n"), ids("Be brief.\n\n", std::nullopt));
  EXPECT_EQ(ids("System.\n\n", ""), ids("", std::nullopt));
  for (const char* text : {"a <image>", "\xff"})
    EXPECT_TRUE(contains(message_of([&] { ids("", text); }, ExitCode::kBadData), "system text"));
}

TEST_F(OwnJson, TheIndexIsKeptSharedAndMadeAgainWhenTheFileChanges) {
  const std::string good = R"({"messages":[{"role":"user","content":"Q"},)"
                           R"({"role":"assistant","content":"A"}]})";
  own(good + "\n" + good);
  DatasetSources with = sources();
  with.index_directory = path("index");
  const DatasetChoice choice = choose_datasets({"json:" + path("own.jsonl")})[0];
  const auto is_mapped = [&] {
    return RecordIndex(InputFile(path("own.jsonl")), path("index"), "own").is_mapped();
  };
  EXPECT_FALSE(is_mapped());
  index_files(choice, with);
  EXPECT_TRUE(is_mapped());
  const uint64_t fingerprint = open_dataset(choice, with)->fingerprint();
  EXPECT_EQ(fingerprint, open_dataset(choice, sources())->fingerprint());
  fs::last_write_time(path("own.jsonl"),
                      fs::last_write_time(path("own.jsonl")) + std::chrono::seconds(1));
  EXPECT_FALSE(is_mapped());
  EXPECT_EQ(open_dataset(choice, with)->fingerprint(), fingerprint) << "the content is the same";
  std::string changed = good + "\n" + good;
  std::replace(changed.begin(), changed.end(), 'Q', 'R');
  own(changed);
  index_files(choice, with);
  EXPECT_TRUE(is_mapped());
  EXPECT_NE(open_dataset(choice, with)->fingerprint(), fingerprint);
}

TEST_F(OwnJson, AChangedFileIsTold) {
  const std::string text = R"({"messages":[]})";
  write("a.jsonl", text);
  write("b.jsonl", text);
  const DatasetChoice two{"own", "json", {path("a.jsonl"), path("b.jsonl")}};
  const std::vector<SourceFile> before = open_dataset(two, sources())->files();
  write("b.jsonl", text + " ");
  const std::vector<SourceFile> after = open_dataset(two, sources())->files();
  ASSERT_EQ(after.size(), 2U);
  EXPECT_EQ(after[0].hash, before[0].hash);
  EXPECT_EQ(after[1].path, path("b.jsonl"));
  EXPECT_NE(after[1].hash, before[1].hash);
  EXPECT_EQ(after[1].hashed, SourceFile::Hashed::kBytes);
}

TEST_F(OwnJson, NamesAreSafeAndUnique) {
  std::vector<std::string> names;
  for (const DatasetChoice& choice :
       choose_datasets({"llava", "json:/a/my data,1.v2.jsonl", "json:/b/my_data_1.v2.json",
                        "json:/a/minigpt4.json", "json:/a/.jsonl"}))
    names.push_back(choice.name);
  EXPECT_EQ(names, (std::vector<std::string>{"llava", "my_data_1.v2", "my_data_1.v2_2",
                                             "minigpt4_2", ".jsonl"}));
  EXPECT_TRUE(contains(message_of(
                           [] {
                             choose_datasets({"json:/a/b", "json:/a/c/../b"});
                           },
                           ExitCode::kConfig),
                       "twice"));
  EXPECT_TRUE(contains(message_of([] { choose_datasets({"json:"}); }, ExitCode::kUsage), "path"));
}

TEST_F(OwnJson, FilesThatAreNotThereAndEmptyOnesAreErrors) {
  message_of([&] { open_own("none.json", sources()); }, ExitCode::kMissingInput);
  EXPECT_TRUE(
      contains(message_of([&] { own("[]", "own.json"); }, ExitCode::kBadData), "no records"));
  EXPECT_TRUE(contains(message_of([&] { own("", "own.json"); }, ExitCode::kBadData), "own.json"));
}

}  // namespace
}  // namespace facet
