#include "io/json_member_scanner.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "io/file.h"
#include "temporary_directory.h"

namespace facet {
namespace {

class JsonMemberScannerTest : public testing::Test {
 protected:
  // "KEY=TEXT" of each member, with its text as it stands in the file; "KEY:VALUE" for others.
  std::vector<std::string> members(const std::string& text) const {
    write_file(directory_ / "file.json", text);
    const InputFile file(directory_ / "file.json");
    JsonMemberScanner scanner(file);
    std::vector<std::string> found;
    while (const auto member = scanner.next())
      found.push_back(
          member->key + (member->is_text ? "=" : ":") +
          text.substr(static_cast<size_t>(member->offset), static_cast<size_t>(member->bytes)));
    EXPECT_FALSE(scanner.next());
    return found;
  }
  std::string refusal(const std::string& text) const {
    try {
      members(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData);
      return error.what();
    }
    ADD_FAILURE() << "it is read";
    return "";
  }

  TemporaryDirectory directory_;
};

using Members = std::vector<std::string>;

TEST_F(JsonMemberScannerTest, AnyFormOfAnObject) {
  EXPECT_EQ(members("{}"), Members{});
  EXPECT_EQ(members(" \r\n{ }\n"), Members{});
  EXPECT_EQ(members(R"({"a":"x","b":"y"})"), (Members{"a=x", "b=y"}));
  EXPECT_EQ(members("\xEF\xBB\xBF{\r\n  \"a\" : \"x\",\r\n  \"b\"\t:\"\"\r\n}\r\n"),
            (Members{"a=x", "b="}));
  EXPECT_EQ(members(R"({"\u0041\"\\":"\/9j\/","a":"z"})"), (Members{R"(A"\=\/9j\/)", "a=z"}));
  EXPECT_EQ(members(R"({"a":"1","a":"2","":"3"})"), (Members{"a=1", "a=2", "=3"}));
  EXPECT_EQ(members(R"({"\u6f22\ud83d\ude00":"x"})"), Members{"\u6f22\U0001F600=x"});
}

TEST_F(JsonMemberScannerTest, ValuesThatAreNoStrings) {
  EXPECT_EQ(members(R"({"a": null ,"b":-1.5e3,"c":{"d":["}",{"e":"\""}]},"f":[],"g":true})"),
            (Members{"a:null", "b:-1.5e3", R"(c:{"d":["}",{"e":"\""}]})", "f:[]", "g:true"}));
}

// Longer than what is read at once, with escapes and ends at all places of its border.
TEST_F(JsonMemberScannerTest, ValuesOfAnyLength) {
  for (const int64_t shift : {-3, -2, -1, 0, 1, 2, 3}) {
    std::string value(static_cast<size_t>((4 << 20) - 8 + shift), 'A');
    value += R"(\/\"\\)";
    const std::string text = R"({"ab":")" + value + R"(","b":")" + value + R"("})";
    const Members found = members(text);
    ASSERT_EQ(found.size(), 2u);
    EXPECT_TRUE(found[0] == "ab=" + value && found[1] == "b=" + value) << shift;
  }
}

TEST_F(JsonMemberScannerTest, WhatIsNotOneObjectIsToldWithItsPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "an empty file"},
      {"[1]", "at byte 0: expected an object"},
      {R"({"a":"x")", "after the key a: expected ',' or '}', found the end of the file"},
      {R"({"a":"x)", "after the key a: the file ends inside a string"},
      {R"({"a":{"b":1})", "expected ',' or '}', found the end"},
      {R"({"a":{"b":1)", "inside a value"},
      {R"({"a")", "expected ':'"},
      {R"({"a":})", "expected a value, found }"},
      {R"({"a":x})", "expected a value, found x"},
      {R"({"a":"x",})", "expected a key in double quotes, found }"},
      {R"({"a":"x" "b":"y"})", "byte 9, after the key a: expected ',' or '}', found \""},
      {R"({"a":"x"} {"b":"y"})", "expected the end of the file, found {"},
      {R"({"\u12":"x"})", "the key"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"},
      {"<!DOCTYPE html><html></html>", "HTML"}};
  for (const auto& [text, part] : cases)
    EXPECT_NE(refusal(text).find(part), std::string::npos) << text << "\n" << refusal(text);
  EXPECT_NE(refusal("{\"" + std::string(70000, 'k') + "\":\"x\"}").find("a key of more than"),
            std::string::npos);
}

TEST(JsonTextOf, EscapesBecomeWhatTheyMean) {
  EXPECT_EQ(json_text_of(R"(\/a\u002bb\n)", "x"), "/a+b\n");
  EXPECT_THROW(json_text_of("a\"b", "x"), Error);
  EXPECT_THROW(json_text_of(R"(a\q)", "x"), Error);
  EXPECT_THROW(json_text_of("a\nb", "x"), Error);
}

}  // namespace
}  // namespace facet
