// What the outside world may put into a line.
#include "base/printable.h"

#include <gtest/gtest.h>

#include "base/utf8.h"

namespace facet {
namespace {

TEST(Printable, PlainTextOfAnyLanguageStays) {
  const std::string text = "C:\\dir \"naïve\" 日本語 Ελληνικά 🙂 ~";
  EXPECT_EQ(printable(text), text);
  EXPECT_EQ(printable_message(text), text);
}

TEST(Printable, NothingBeginsALineOrMovesTheCursor) {
  EXPECT_EQ(printable("a\nEXIT code=0\r\n\tb"), "a\\nEXIT code=0\\r\\n\\tb");
  EXPECT_EQ(printable(std::string_view("\0\a\b\x1b[2J\x7f", 8)), "\\x00\\x07\\x08\\x1b[2J\\x7f");
  EXPECT_EQ(printable("\u0085\u009b[2J"), "\\x85\\x9b[2J");  // C1, as UTF-8
  EXPECT_EQ(printable("\u2028\u2029\u202e\u2066"), "\\u{2028}\\u{2029}\\u{202e}\\u{2066}");
}

TEST(Printable, WhatIsNotUtf8IsShownByteByByte) {
  EXPECT_EQ(printable("caf\xe9.jpg"), "caf\\xe9.jpg");
  EXPECT_EQ(printable("\x9b[2J"), "\\x9b[2J");              // C1 as a single byte
  EXPECT_EQ(printable("\xc0\x8a"), "\\xc0\\x8a");           // an overlong newline
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(printable("\xe6\x97"), "\\xe6\\x97");           // cut off
  EXPECT_EQ(printable("\xf5\x80\x80\x80"), "\\xf5\\x80\\x80\\x80");
}

TEST(Printable, EveryByteAndEscapingTwiceAreHarmless) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const std::string shown = printable(all);
  EXPECT_TRUE(is_utf8(shown));
  for (const char c : shown) EXPECT_TRUE(c < 0 || (c >= ' ' && c != '\x7f'));
  EXPECT_EQ(printable(shown), shown);
}

TEST(Printable, OnlyLinesOfTheProgramsOwnMessagesAreKept) {
  EXPECT_EQ(printable_message("2 mistakes:\n  first\n  second\x1b"),
            "2 mistakes:\n  first\n  second\\x1b");
  EXPECT_EQ(printable_message("a\nEXIT code=0"), "a\\nEXIT code=0");
  EXPECT_EQ(printable_message("a\n EXIT"), "a\\n EXIT");
  EXPECT_EQ(printable_message("a\n\n  b\n"), "a\\n\n  b\\n");
}

}  // namespace
}  // namespace facet
