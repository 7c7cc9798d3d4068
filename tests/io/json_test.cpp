#include "io/json.h"

#include <gtest/gtest.h>

#include "temporary_directory.h"

namespace facet {
namespace {

JsonDocument parse(std::string_view text) { return JsonDocument::parse(text, "a.json"); }

TEST(Json, ValuesComeBack) {
  const JsonDocument document = parse(
      R"({"i": -7, "big": 9223372036854775807, "r": 2.5, "e": 1e3, "t": true, "n": null,
          "s": "a\"\u00e9\n", "list": [1, [2, 3], {"x": "y"}], "empty": {}, "none": []})");
  const JsonValue root = document.root();
  EXPECT_EQ(root.at("i").as_int(), -7);
  EXPECT_EQ(root.at("big").as_int(), INT64_MAX);
  EXPECT_EQ(root.at("r").as_double(), 2.5);
  EXPECT_FALSE(root.at("e").is_integer());
  EXPECT_EQ(root.at("e").as_double(), 1000.0);
  EXPECT_EQ(root.at("i").as_double(), -7.0);
  EXPECT_TRUE(root.at("t").as_bool());
  EXPECT_TRUE(root.at("n").is_null());
  EXPECT_EQ(root.at("s").as_string(), "a\"\xc3\xa9\n");
  EXPECT_EQ(root.at("list").size(), 3);
  EXPECT_EQ(root.at("list").at(1).at(1).as_int(), 3);
  EXPECT_EQ(root.at("list").at(2).at("x").as_string(), "y");
  EXPECT_EQ(root.at("empty").size(), 0);
  EXPECT_EQ(root.at("none").size(), 0);
  EXPECT_EQ(root.member(2).first, "r");
  EXPECT_FALSE(root.find("x").has_value());
  EXPECT_EQ(root.get_int("missing", 4), 4);
  EXPECT_EQ(root.get_string("n", "fallback"), "fallback");
  int64_t sum = 0;
  for (const JsonValue element : root.at("list").at(1)) sum += element.as_int();
  EXPECT_EQ(sum, 5);
}

TEST(Json, ErrorsNameTheFileAndThePlace) {
  const JsonDocument document = parse(R"({"a": {"b": [1, {"c": "text"}]}, "r": 1.5, "n": -2e300})");
  const JsonValue c = document.root().at("a").at("b").at(1).at("c");
  EXPECT_EQ(c.where(), "a.json: a.b[1].c");
  EXPECT_EQ(error_of([&] { c.as_int(); }),
            "65: a.json: a.b[1].c: expected an integer, found a string");
  EXPECT_EQ(error_of([&] { document.root().at("r").as_int(); }),
            "65: a.json: r: expected an integer, found a real number");
  for (const char* large : {"9223372036854775808", "-9223372036854775809", "1e30"})
    EXPECT_TRUE(mentions(error_of([&] { JsonDocument::parse(large, "b.json").root().as_int(); }),
                         "which is too large"))
        << large;
  EXPECT_EQ(error_of([&] { document.root().at("q"); }), "65: a.json: the key \"q\" is missing");
  EXPECT_EQ(error_of([&] { document.root().at("a").at("b").at(2); }),
            "65: a.json: a.b: element 2 does not exist, there are 2");
  EXPECT_EQ(
      error_of([&] { JsonDocument::parse("[]", "c.json", ExitCode::kConfig).root().find("x"); }),
      "78: c.json: expected an object, found an array");
}

TEST(Json, DuplicateKeysAreRefused) {
  EXPECT_TRUE(mentions(error_of([] { parse(R"([{"a": 1, "b": 2, "a": 3}])"); }),
                       "the key \"a\" occurs twice"));
  std::string many = "{";
  for (int i = 0; i < 100; ++i) many += fmt::format("\"k{}\": {}, ", i, i);
  EXPECT_EQ(parse(many + "\"last\": 0}").root().at("k57").as_int(), 57);
  EXPECT_TRUE(mentions(error_of([&] { parse(many + "\"k57\": 0}"); }), "\"k57\" occurs twice"));
}

TEST(Json, LargeObjectsFindEveryKey) {
  std::string text = "[";
  for (int object = 0; object < 3; ++object) {
    text += object ? ",{" : "{";
    for (int i = 0; i < 97; ++i)
      text += fmt::format("{}\"{}\": {}", i ? "," : "", i * 7919, i + object);
    text += "}";
  }
  const JsonDocument document = parse(text + "]");
  for (int object = 0; object < 3; ++object)
    for (int i = 0; i < 97; ++i)
      EXPECT_EQ(document.root().at(object).at(std::to_string(i * 7919)).as_int(), i + object);
  EXPECT_FALSE(document.root().at(1).find("1").has_value());
}

TEST(Json, DepthAndSizeAreLimited) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_EQ(error_of([&] { parse(nested(64)); }), "");
  EXPECT_TRUE(mentions(error_of([&] { parse(nested(65)); }), "deeper than 64"));
  EXPECT_TRUE(mentions(error_of([&] { parse(std::string(1000000, '[')); }), "deeper than 64"));
  TemporaryDirectory directory;
  const std::string path = directory.put("x.json", "[1, 2, 3]");
  EXPECT_TRUE(mentions(error_of([&] { JsonDocument::read(path, ExitCode::kBadData, 8); }),
                       "9 bytes, at most 8"));
  EXPECT_EQ(JsonDocument::read(path, ExitCode::kBadData, 9).root().size(), 3);
  EXPECT_TRUE(mentions(error_of([&] { JsonDocument::read(directory / "none.json"); }), "66: "));
}

TEST(Json, ForeignBytesCostOnlyTheirStringWhereTheyAreAllowed) {
  const std::string text =
      "[{\"a\": \"x\xff\xc3y\x80\"}, \"\xc3\xa4\xf4\x8f\xbd\xbf\", \"\xe6\xbc\"]";
  const JsonDocument document = JsonDocument::parse_any_bytes(text, "a.json");
  EXPECT_EQ(document.root().at(int64_t{0}).at("a").as_string(), "x\xff\xc3y\x80");
  EXPECT_EQ(document.root().at(int64_t{1}).as_string(), "\xc3\xa4\xf4\x8f\xbd\xbf");
  EXPECT_EQ(document.root().at(int64_t{2}).as_string(), "\xe6\xbc");
  EXPECT_TRUE(mentions(error_of([] { JsonDocument::parse_any_bytes("\xff[", "a.json"); }),
                       "not valid JSON"));
}

TEST(Json, BrokenTextsNameLineAndColumn) {
  EXPECT_TRUE(mentions(error_of([] { parse("{\"a\": 1,\n \"b\": tru}"); }), "line 2, column 10"));
  EXPECT_TRUE(mentions(error_of([] { parse("[\"ab\xff\"]"); }), "line 1, column 5 (byte 4)"));
  EXPECT_TRUE(mentions(error_of([] { parse("[\"ab\xff\"]"); }), "UTF-8"));
  EXPECT_TRUE(mentions(error_of([] { parse("[\"\xc0\xaf\"]"); }), "UTF-8"));      // overlong
  EXPECT_TRUE(mentions(error_of([] { parse("[\"\xed\xa0\x80\"]"); }), "UTF-8"));  // surrogate
  EXPECT_NE(error_of([] { parse("[\"\\ud800\"]"); }), "");
  for (const char* text : {"", " ", "[1] 2", "[1", "{\"a\" 1}", "[01]", "nan", "[1e999]", "\"a"})
    EXPECT_TRUE(mentions(error_of([&] { parse(text); }), "not valid JSON")) << text;
}

TEST(Json, ManyRecordsStayNearTheirOwnSize) {
  std::string text = "[";
  for (int i = 0; i < 20000; ++i)
    text +=
        fmt::format("{}{{\"id\": {}, \"image\": \"{:012}.jpg\", \"caption\": \"a red circle\"}}",
                    i ? ",\n" : "", i, i);
  text += "]";
  const JsonDocument document = parse(text);
  EXPECT_EQ(document.root().at(19999).at("id").as_int(), 19999);
  EXPECT_LT(document.memory_bytes(), 3 * static_cast<int64_t>(text.size()));
}

TEST(JsonWriter, WhatIsWrittenReadsBack) {
  JsonWriter writer;
  writer.begin_object();
  writer.key("text").value("q\"\\\n\x01\xc3\xa9");
  writer.key("int").value(int64_t{-5});
  writer.key("whole").value(2.0);
  writer.key("tenth").value(0.1);
  writer.key("tiny").value(1e-05);
  writer.key("flag").value(false);
  writer.key("list").begin_array();
  writer.value(int64_t{1});
  writer.null();
  writer.begin_object();
  writer.end_object();
  writer.end_array();
  writer.end_object();
  const std::string text = writer.take();
  const JsonDocument document = parse(text);
  EXPECT_EQ(document.root().at("text").as_string(), "q\"\\\n\x01\xc3\xa9");
  EXPECT_FALSE(document.root().at("whole").is_integer());
  EXPECT_EQ(document.root().at("tenth").as_double(), 0.1);
  EXPECT_EQ(document.root().at("tiny").as_double(), 1e-05);
  JsonWriter again;
  again.value(document.root());
  EXPECT_EQ(again.take(), text);
  EXPECT_TRUE(mentions(text, "\n  \"list\": [\n    1,\n    null,\n    {}\n  ]\n}\n"));
}

}  // namespace
}  // namespace facet
