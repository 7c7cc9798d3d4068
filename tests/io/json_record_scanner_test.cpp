#include "io/json_record_scanner.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

class JsonRecordScanner : public testing::Test {
 protected:
  // "LINE:text" of every record.
  std::vector<std::string> records(const std::string& text, const std::string& name = "r.json") {
    std::vector<std::string> found;
    const InputFile file(directory_.put(name, text));
    scan_json_records(file, [&](const JsonRecordPlace& place) {
      found.push_back(fmt::format(
          "{}:{}", place.line,
          text.substr(static_cast<size_t>(place.offset), static_cast<size_t>(place.bytes))));
    });
    return found;
  }
  std::string error(const std::string& text, const std::string& name = "r.json") {
    return error_of([&] { records(text, name); });
  }

  TemporaryDirectory directory_;
};

using Texts = std::vector<std::string>;

TEST_F(JsonRecordScanner, LinesAreRecordsAndBlankOnesAreNot) {
  EXPECT_EQ(records("{\"a\":1}\n\n \t\r\n{\"b\":[2]}\r\n{cut"),
            (Texts{"1:{\"a\":1}", "4:{\"b\":[2]}\r", "5:{cut"}));
  EXPECT_EQ(records("\n{}\n"), (Texts{"2:{}"}));
  EXPECT_EQ(records("oops\n{}"), (Texts{"1:oops", "2:{}"}));
  EXPECT_EQ(records("[1]\n{}", "r.jsonl"), (Texts{"1:[1]", "2:{}"}));
}

TEST_F(JsonRecordScanner, ElementsOfAnArrayAreRecords) {
  EXPECT_EQ(records("[]"), Texts{});
  EXPECT_EQ(records("\xEF\xBB\xBF [\n{\"a\":\"],\\\"{\"},\n\n[1,[2]],7 , \"x,]\"]\n"),
            (Texts{"2:{\"a\":\"],\\\"{\"}", "4:[1,[2]]", "4:7 ", "4:\"x,]\""}));
  EXPECT_EQ(records("[{\"a\":oops}, {}]"), (Texts{"1:{\"a\":oops}", "1:{}"}));
}

TEST_F(JsonRecordScanner, SmallAndLargePiecesGiveTheSame) {
  std::string array = "[", lines;
  Texts expected;
  for (int i = 0; i < 3000; ++i) {  // more than two pieces
    const std::string record = fmt::format("{{\"n\":{},\"t\":\"{}\"}}", i, std::string(3000, 'x'));
    array += (i == 0 ? "" : ",\n") + record;
    lines += record + "\n";
    expected.push_back(fmt::format("{}:{}", i + 1, record));
  }
  EXPECT_EQ(records(array + "]"), expected);
  EXPECT_EQ(records(lines), expected);
}

TEST_F(JsonRecordScanner, WhatIsNoListOfRecordsIsNamed) {
  EXPECT_TRUE(mentions(error("[{},"), "line 1, byte 4: the file ends inside the array"));
  EXPECT_TRUE(mentions(error("[\n{\"a\":\"b]"), "is it cut off?"));
  EXPECT_TRUE(mentions(error("[{},,{}]"), "expected a record before ','"));
  EXPECT_TRUE(mentions(error("[{},]"), "expected a record after ','"));
  EXPECT_TRUE(mentions(error("[{}]\n[{}]"), "line 2, byte 5: text after the end of the array"));
  EXPECT_TRUE(mentions(error(""), "65: "));
  EXPECT_TRUE(mentions(error("<!DOCTYPE html>"), "HTML"));
  EXPECT_TRUE(mentions(error("\x1f\x8b zipped", "r.jsonl"), "gzip"));
}

}  // namespace
}  // namespace facet
