// What must not compile, and why.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>

namespace facet::kernel_test {
namespace {

struct Result {
  int status;
  std::string text;
};

Result compile(const std::string& file) {
  const std::string command =
      "c++ -std=c++20 -DFACET_EMULATED -Isrc -I. -fsyntax-only -x c++ " + file + " 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return {-1, "no shell"};
  Result result{0, ""};
  std::array<char, 512> line;
  while (std::fgets(line.data(), line.size(), pipe)) result.text += line.data();
  result.status = pclose(pipe);
  return result;
}

// The tests run in the top directory of the tree.
TEST(Compile, TheBareKeywordOfSharedMemoryIsAnError) {
  EXPECT_EQ(compile("tests/kernels/tile_kernels.cu").status, 0);
  const Result result = compile("tests/kernels/bare_shared.cu");
  EXPECT_NE(result.status, 0);
  EXPECT_NE(result.text.find("declare shared arrays by GPU_SHARED"), std::string::npos)
      << result.text;
}

}  // namespace
}  // namespace facet::kernel_test
