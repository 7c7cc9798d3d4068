#include "data/data_config.h"

#include "dataset_fixture.h"

namespace facet {
namespace {

class DataConfig : public DatasetTest {
 protected:
  std::vector<DatasetChoice> choices(const std::string& text) const {
    write("mix/mix.json", text);
    return read_data_config((root_ / "mix/mix.json").string());
  }
  std::string refusal(const std::string& text) const {
    return message_of([&] { choices(text); }, ExitCode::kConfig);
  }
};

TEST_F(DataConfig, AMixtureIsOneFile) {
  const auto mixture = choices(
      R"([{"type":"llava","samples":50,"concatenate":3,"weight":2},
          {"type":"json","name":"mine","paths":["a.jsonl","/b/a.jsonl"],"image_root":"images",
           "samples":"all","weight":0.5,"system":"Be brief."},
          {"type":"json","paths":"../a.json","weight":1}])");
  ASSERT_EQ(mixture.size(), 3U);
  EXPECT_EQ(mixture[0].name, "llava");
  EXPECT_EQ(mixture[0].samples, 50);
  EXPECT_EQ(mixture[0].concatenate, 3);
  EXPECT_EQ(mixture[0].weight, 2);
  EXPECT_FALSE(mixture[0].system_text.has_value());
  const std::string here = (root_ / "mix").string();
  EXPECT_EQ(mixture[1].name, "mine");
  EXPECT_EQ(mixture[1].paths, (std::vector<std::string>{here + "/a.jsonl", "/b/a.jsonl"}));
  EXPECT_EQ(mixture[1].image_root, here + "/images");
  EXPECT_EQ(mixture[1].samples, -1);
  EXPECT_EQ(mixture[1].system_text, "Be brief.");
  EXPECT_EQ(mixture[2].name, "a");
}

TEST_F(DataConfig, WhatIsWrongIsNamedWithItsPlace) {
  for (const auto& [text, part] : std::vector<std::pair<const char*, const char*>>{
           {"{}", "expected a list of data sets"},
           {"[]", "expected a list of data sets"},
           {"[7]", "[0]: expected an object"},
           {R"([{"type":"llava","wieght":2}])", "wieght is none of type, name"},
           {R"([{"type":"lava"}])", "[0].type: lava is none of json, tar"},
           {R"([{}])", "type"},
           {R"([{"type":"llava","name":"mine"}])", "name is for own files"},
           {R"([{"type":"json"}])", "paths"},
           {R"([{"type":"json","paths":[]}])", "paths: expected a path"},
           {R"([{"type":"json","paths":7}])", "paths: expected a path"},
           {R"([{"type":"llava","samples":0}])", "samples: expected a number from 1 on"},
           {R"([{"type":"llava","samples":"some"}])", "samples"},
           {R"([{"type":"llava","concatenate":0}])", "concatenate"},
           {R"([{"type":"llava","weight":0}])", "weight: expected a number above 0"},
           {R"([{"type":"llava","weight":1},{"type":"minigpt4"}])",
            "1 of 2 data sets have a weight"},
           {R"([{"type":"llava"},{"type":"llava"}])", "llava is given twice"},
           {R"([{"type":"json","name":"a b","paths":"x"}])", "other characters"},
           {R"([{"type":"json","name":"llava","paths":"x"}])", "llava is given twice"},
           {R"([{"type":"json","name":"a","paths":"x"},{"type":"json","name":"a","paths":"y"}])",
            "a is given twice"},
           {R"([{"type":"json","paths":["x","./x"]}])", "twice"}})
    EXPECT_TRUE(contains(refusal(text), part)) << refusal(text) << "\nfor " << text;
}

TEST_F(DataConfig, ASetMayHaveASystemTextWhichItsRecordsReplace) {
  const std::string turns = R"({"role":"user","content":"Q"},{"role":"assistant","content":"A"}]})";
  write("mix/a.jsonl", R"({"messages":[)" + turns + "\n" +
                           R"({"messages":[{"role":"system","content":"Own."},)" + turns);
  write("mix/b.jsonl", R"({"messages":[)" + turns);
  const auto mixture =
      choices(R"([{"type":"json","name":"m","paths":["a.jsonl","b.jsonl"],"system":"Set's."}])");
  const auto dataset = open_dataset(mixture[0], sources());
  ASSERT_EQ(dataset->num_records(), 3);
  EXPECT_EQ(read(*dataset, 0).system_text, "Set's.");
  EXPECT_EQ(read(*dataset, 1).system_text, "Own.");
  EXPECT_EQ(read(*dataset, 2).system_text, "Set's.");
  EXPECT_TRUE(contains(dataset->file_of(2), "b.jsonl"));
  auto without = mixture[0];
  without.system_text.reset();
  EXPECT_NE(open_dataset(without, sources())->fingerprint(), dataset->fingerprint());
}

}  // namespace
}  // namespace facet
