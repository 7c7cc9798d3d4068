// Feeds every target its corpus: seeds, and inputs that once were findings. A finding ends the
// process; the last line before it says which file it was.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "target.h"

// Leaks are left to libFuzzer: MPI, which is up in every test program, has some of its own.
extern "C" const char* __asan_default_options() { return "detect_leaks=0:hard_rss_limit_mb=1024"; }

namespace facet::fuzz {
namespace {

constexpr unsigned kMostSeconds = 60;  // for a file, on a machine that does much else

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
  int64_t files = 0, read = 0;
  std::string refusals;
  for (const fs::directory_entry& entry :
       fs::directory_iterator("tests/fuzz/corpus/" + GetParam())) {
    std::fprintf(stderr, "%s\n", entry.path().c_str());
    alarm(kMostSeconds);
    const std::string bytes = fixture(entry.path().string());
    EXPECT_EQ(target(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
    ++files;
    read += last_refusal().empty();
    refusals += "\n" + entry.path().string() + ": " + last_refusal();
  }
  alarm(0);
  EXPECT_GE(files, 2) << "a seed that is read and one that is refused";
  EXPECT_GE(read, 1) << "no seed is read any more, so that the fuzzer gets no further:" << refusals;
}

INSTANTIATE_TEST_SUITE_P(All, Corpus, testing::ValuesIn(target_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace facet::fuzz
