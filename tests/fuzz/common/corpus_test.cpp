// Feeds every target its corpus: seeds, and inputs that once were findings. A finding ends the
// process; the result lines before it say which file it was.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "target.h"

namespace facet::fuzz {
namespace {

namespace fs = std::filesystem;

// The names of tests/fuzz/*.cpp.
std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator("tests/fuzz"))
    if (entry.path().extension() == ".cpp") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Corpus : public testing::TestWithParam<std::string> {};

TEST_P(Corpus, IsRefusedOrRead) {
  const Target target = choose_target(GetParam());
  ASSERT_NE(target, nullptr) << "tests/fuzz/" << GetParam() << ".cpp does not include target.h";
  EXPECT_EQ(target(nullptr, 0), 0);
  int64_t files = 0;
  for (const fs::directory_entry& entry :
       fs::directory_iterator("tests/fuzz/corpus/" + GetParam())) {
    SCOPED_TRACE(entry.path().string());
    std::fprintf(stderr, "%s\n", entry.path().c_str());
    const std::string bytes = fixture(entry.path().string());
    EXPECT_EQ(target(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
    ++files;
  }
  EXPECT_GE(files, 2) << "a seed that is read and one that is refused";
}

INSTANTIATE_TEST_SUITE_P(All, Corpus, testing::ValuesIn(target_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace facet::fuzz
