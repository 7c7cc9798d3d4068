// main() of the kernels' test programs: no MPI; a planted bug may end the program in a child.
#include <gtest/gtest.h>

// Abandoned threads of a block leak what their frames held.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
