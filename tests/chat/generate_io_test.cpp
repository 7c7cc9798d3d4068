// Questions in, answers out.
#include "chat/generate_io.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/check.h"

namespace facet {
namespace {

std::string written(const std::string& text) {
  const std::string path = ::testing::TempDir() + "facet_generate_io.json";
  std::ofstream(path) << text;
  return path;
}

TEST(GenerateIo, ReadsTestsInTheOrderOfTheFile) {
  const auto tests = read_generation_tests(
      written(R"({"z": [["Q1", "a.png  b.png"], ["Q2"]], "a": [["Q3", ""]]})"));
  ASSERT_EQ(tests.size(), 2u);
  EXPECT_EQ(tests[0].name, "z");
  ASSERT_EQ(tests[0].rounds.size(), 2u);
  EXPECT_EQ(tests[0].rounds[0].images, (std::vector<std::string>{"a.png", "b.png"}));
  EXPECT_EQ(tests[0].rounds[0].image_text, "a.png  b.png");
  EXPECT_TRUE(tests[0].rounds[1].images.empty());
  EXPECT_TRUE(tests[1].rounds[0].images.empty());
}

TEST(GenerateIo, OtherShapesAreRefused) {
  for (const char* text : {"[]", "{}", R"({"a": []})", R"({"a": [[]]})", R"({"a": ["Q"]})",
                           R"({"a": [["Q", "i", "x"]]})", R"({"a": [[1]]})"})
    EXPECT_THROW(read_generation_tests(written(text)), Error) << text;
}

TEST(GenerateIo, FieldsAreQuotedWhereTheyMust) {
  EXPECT_EQ(csv_field("plain text"), "plain text");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"x\""), "\"say \"\"x\"\"\"");
  EXPECT_EQ(csv_field("two\nlines"), "\"two\nlines\"");

  const std::string path = ::testing::TempDir() + "facet_answers.csv";
  write_answers(path, {{"t", {{"Q,1", "a.png", {"a.png"}}, {"Q2", "", {}}}}},
                {{"yes", "a\n\"b\""}});
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_EQ(text.str(),
            "test_name,image_path,question,answer\nt,a.png,\"Q,1\",yes\nt,,Q2,\"a\n\"\"b\"\"\"\n");
  std::remove(path.c_str());
}

}  // namespace
}  // namespace facet
