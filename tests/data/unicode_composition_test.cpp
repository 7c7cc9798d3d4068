#include "data/unicode_composition.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>

#include "base/utf8.h"

namespace facet {
namespace {

std::string of_the_library(const std::string& text) {
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> result(
      utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str())), &std::free);
  return reinterpret_cast<const char*>(result.get());
}

// Marks of many classes in any order, marks that are two, letters that are composed, Hangul.
TEST(UnicodeComposition, IsThatOfTheLibrary) {
  constexpr uint32_t kCodes[] = {'a',    'e',    'q',   0x300, 0x301,  0x327,  0x323,  0x345,
                                 0x344,  0x35C,  0x334, 0xE9,  0x1ED9, 0x1FEF, 0x212B, 0xF73,
                                 0xF71,  0xF72,  0x5B0, 0x5B9, 0x1100, 0x1161, 0x11A8, 0xAC01,
                                 0x30AB, 0x3099, 0x958, 0x93C, 0x2ADC, ' ',    0x1D15E};
  std::mt19937 random(7);
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (uint32_t count = random() % 12; count > 0; --count)
      append_utf8(text, kCodes[random() % std::size(kCodes)]);
    ASSERT_EQ(composed(text), of_the_library(text)) << i << ": " << text;
  }
}

TEST(UnicodeComposition, AnyNumberOfMarksTakesNoLongerThanItsLength) {
  std::string text = "a";
  for (const uint32_t mark : {0x301u, 0x323u})
    for (int i = 0; i < 100'000; ++i) append_utf8(text, mark);
  const std::clock_t begin = std::clock();
  const std::string result = composed(text);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_TRUE(result.starts_with("\u1EA1\u0323"));
  EXPECT_LT(seconds, 5);  // exchanging neighbours takes minutes
}

}  // namespace
}  // namespace facet
