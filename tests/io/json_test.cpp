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

TEST(Json, DuplicateKeysAreRefusedWhereTheyAreUsed) {
  const JsonDocument document = parse("[{\"a\": 1,\n \"b\": {\"c\": 1, \"c\": 2},\n  \"a\": 3}]");
  const JsonValue record = document.root().at(int64_t{0});
  EXPECT_EQ(error_of([&] { record.at("a"); }),
            "65: a.json: [0]: the key \"a\" occurs twice, again in line 3, column 3; remove one of "
            "them");
  EXPECT_EQ(error_of([&] { record.get_int("a", 0); }), error_of([&] { record.at("a"); }));
  EXPECT_EQ(error_of([&] { record.member(1); }), error_of([&] { record.at("a"); }));
  EXPECT_TRUE(mentions(error_of([&] { record.at("b").at("c"); }),
                       "[0].b: the key \"c\" occurs twice, again in line 2, column 16"));
  EXPECT_EQ(record.at("b").size(), 2);
  EXPECT_FALSE(record.find("x").has_value());
  EXPECT_EQ(record.member_as_written(2).first, "a");
  EXPECT_EQ(document.first_duplicate(),
            "a.json: [0].b: the key \"c\" occurs twice, again in line 2, column 16");
  EXPECT_EQ(parse("[{}, {\"a\": 1}, {}]").first_duplicate(), "");

  std::string many = "{";
  for (int i = 0; i < 100; ++i) many += fmt::format("\"k{}\": {}, ", i, i);
  EXPECT_EQ(parse(many + "\"last\": 0}").root().at("k57").as_int(), 57);
  const JsonDocument twice = parse(many + "\"k57\": 0}");
  EXPECT_EQ(twice.root().at("k56").as_int(), 56);
  EXPECT_TRUE(mentions(error_of([&] { twice.root().at("k57"); }), "\"k57\" occurs twice"));
}

TEST(Json, NumbersAreReadAsPythonReadsThem) {
  const JsonDocument document = parse(
      "[NaN, Infinity, -Infinity, 1e999, -1e999, 1e-999, 123456789012345678901234567890, "
      "-9223372036854775808, 9223372036854775808, -0, 1E+2, 0.1]");
  const JsonValue root = document.root();
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(root.at(i).is_number());
    EXPECT_TRUE(mentions(error_of([&] { root.at(i).as_double(); }), "expected a finite number"));
    EXPECT_TRUE(mentions(error_of([&] { root.at(i).as_int(); }), "expected an integer"));
  }
  EXPECT_EQ(root.at(5).as_double(), 0);
  EXPECT_EQ(root.at(6).as_double(), 123456789012345678901234567890.0);
  for (const int64_t i : {3, 6, 8})
    EXPECT_TRUE(mentions(error_of([&] { root.at(i).as_int(); }), "which is too large"));
  EXPECT_EQ(root.at(7).as_int(), INT64_MIN);
  EXPECT_EQ(root.at(8).as_double(), 9223372036854775808.0);
  EXPECT_EQ(root.at(9).as_int(), 0);
  EXPECT_EQ(root.at(10).as_double(), 100);
  EXPECT_EQ(root.at(11).as_double(), 0.1);
}

TEST(Json, EscapesBecomeUtf8) {
  const JsonDocument document = parse(
      R"(["\"\\\/\b\f\n\r\t", "\u00e9\u6F22", "\ud83d\ude00", "\ud83d", "\ud83dx", "\ud83d\u0041",
               "\ude00\ud83d\ude00", "a\u0000b"])");
  const JsonValue root = document.root();
  const auto text = [&](int64_t i) { return root.at(i).as_string(); };
  EXPECT_EQ(text(0), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(text(1), "\xc3\xa9\xe6\xbc\xa2");
  EXPECT_EQ(text(2), "\xf0\x9f\x98\x80");
  EXPECT_EQ(text(3), "\xed\xa0\xbd");  // not UTF-8
  EXPECT_EQ(text(4), "\xed\xa0\xbdx");
  EXPECT_EQ(text(5),
            "\xed\xa0\xbd"
            "A");
  EXPECT_EQ(text(6), "\xed\xb8\x80\xf0\x9f\x98\x80");
  EXPECT_EQ(text(7), std::string_view("a\0b", 3));
}

TEST(Json, AByteOrderMarkAndCarriageReturnsAreNoMatter) {
  EXPECT_EQ(parse("\xEF\xBB\xBF{\r\n  \"a\": 1\r\n}\r\n").root().at("a").as_int(), 1);
  EXPECT_TRUE(mentions(error_of([] { parse("[1,\r\n2,\r\n x]"); }), "line 3, column 2"));
}

TEST(Json, ATextIsReadToItsEnd) {
  using namespace std::string_view_literals;
  EXPECT_TRUE(
      mentions(error_of([] { parse("[1]\0"sv); }), "expected the end of the text, found <00>"));
  EXPECT_TRUE(mentions(error_of([] { parse("[1, \0 2]"sv); }), "column 5"));
  EXPECT_TRUE(mentions(error_of([] { parse("[1]\n\0[2]"sv); }), "line 2, column 1"));
  EXPECT_TRUE(mentions(error_of([] { parse("[\"a\0b\"]"sv); }), "control character <00>"));
  EXPECT_TRUE(mentions(error_of([] { parse("[1]\0\xff"sv); }), "UTF-8"));
}

TEST(Json, WhatIsNotJsonIsCalledByItsName) {
  EXPECT_EQ(error_of([] { parse("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"); }),
            "65: a.json: a Git LFS pointer, not JSON; fetch the file itself: git lfs pull");
  EXPECT_TRUE(mentions(error_of([] { parse("\x1f\x8b\x08"); }), "gzip-compressed, not JSON"));
  EXPECT_TRUE(mentions(error_of([] { parse("<html>"); }), "an HTML page"));
  EXPECT_TRUE(mentions(error_of([] { parse(""); }), "an empty file"));
  for (const char* text : {"{\"a\": 1}\n{\"a\": 2}\n", "[1]\r\n[2]"})
    EXPECT_TRUE(mentions(error_of([&] { parse(text); }),
                         "JSON lines: a second value begins in line 2; expected one array"))
        << text;
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
  EXPECT_EQ(error_of([&] { parse(nested(900)); }), "");
  EXPECT_TRUE(mentions(error_of([&] { parse(nested(901)); }), "deeper than 900"));
  EXPECT_TRUE(mentions(error_of([&] { parse(std::string(1000000, '[')); }), "deeper than 900"));
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
  EXPECT_TRUE(
      mentions(error_of([] { parse("{\"a\": [1, {\"b\": [2, x]}]}"); }), ", in a[1].b[1]: "));
  for (const char* text : {" ",           "[1] 2",
                           "[1",          "{\"a\" 1}",
                           "[01]",        "nan",
                           "\"a",         "[1,]",
                           "{\"a\": 1,}", "{1: 2}",
                           "[1.]",        "[.5]",
                           "[-]",         "[1e]",
                           "[+1]",        "['a']",
                           "[\"\\x\"]",   "[\"\\u12G4\"]",
                           "[\"\\u12\"]", "[\"\\ud83d\\u12\"]",
                           "[-NaN]",      "[Inf]",
                           "tru",         "[",
                           "{\"a\":",     "]",
                           "[1 2]",       "// a",
                           "[\"\n\"]"})
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

TEST(JsonWriter, ACopyIsWhatWasWritten) {
  const std::string text =
      "{\n  \"a\": NaN,\n  \"a\": [\n    Infinity,\n    -Infinity,\n    \"x\\ud83d\"\n  ]\n}\n";
  const JsonDocument document = parse(text);
  JsonWriter writer;
  writer.value(document.root());
  EXPECT_EQ(writer.take(), text);
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

// Names of files may hold any bytes; what is written is JSON all the same, and safe to look at.
TEST(JsonWriter, AnyBytesMakeAString) {
  EXPECT_EQ(json_string("a\xff\n\x1b\x7f\"\\"), "\"a\\u00ff\\n\\u001b\\u007f\\\"\\\\\"");
  EXPECT_EQ(json_string("\u009b\u202e 日本\xf0\x9f\x99\x82"),
            "\"\\u009b\\u202e 日本\xf0\x9f\x99\x82\"");
  JsonWriter writer;
  writer.value("caf\xe9 \u202e");
  EXPECT_EQ(parse(writer.take()).root().as_string(), "caf\u00e9 \u202e");
}

}  // namespace
}  // namespace facet
