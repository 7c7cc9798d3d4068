#include "chat/image_words.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace facet {
namespace {

using Words = std::vector<std::string>;

TEST(ImageWords, AreCutAsAShellCuts) {
  EXPECT_EQ(words_of_images("", ""), Words{});
  EXPECT_EQ(words_of_images("  \t ", ""), Words{});
  EXPECT_EQ(words_of_images(" a.png\tb.jpg\nc ", ""), (Words{"a.png", "b.jpg", "c"}));
  EXPECT_EQ(words_of_images(R"("a b.jpg" 'c "d".jpg' e\ f.jpg)", ""),
            (Words{"a b.jpg", "c \"d\".jpg", "e f.jpg"}));
  EXPECT_EQ(words_of_images(R"(pre"fix and"' more' "q\"q" 'b\s' \~)", ""),
            (Words{"prefix and more", "q\"q", "b\\s", "~"}));
  EXPECT_EQ(words_of_images("\"\" x", ""), (Words{"", "x"}));
  EXPECT_EQ(words_of_images("b\xC3\xA4r.jpg", ""), Words{"b\xC3\xA4r.jpg"});
}

TEST(ImageWords, ATildeIsTheHomeDirectory) {
  EXPECT_EQ(words_of_images("~/a.jpg ~ ~b a~/c '~/d e'", "/home/x"),
            (Words{"/home/x/a.jpg", "/home/x", "~b", "a~/c", "/home/x/d e"}));
  EXPECT_EQ(words_of_images("~/a.jpg", ""), Words{"~/a.jpg"});
}

TEST(ImageWords, WhatIsNotClosedIsRefused) {
  for (const char* line : {"\"a b.jpg", "a 'b", "a\\", "\"a\\\""})
    EXPECT_THROW(words_of_images(line, ""), Error) << line;
}

}  // namespace
}  // namespace facet
