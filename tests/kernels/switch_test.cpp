// Both ways to switch stacks: control goes to and fro, and what a frame holds stays.
#include "emulated/kernels/switch.h"

#include <gtest/gtest.h>

#include <vector>

namespace facet::emulated {
namespace {

template <typename T>
class SwitchTest : public testing::Test {};

// What the fibers below share with the test; a fiber's entry takes no argument.
template <typename T>
struct Rig {
  static inline T scheduler, fibers[2];
  static inline int running = 0;
  static inline std::vector<int> trace;

  static void entry() {
    const int me = running;
    double local = me + 0.5;  // kept in a register or on the stack over every switch
    for (int turn = 0; turn < 3; ++turn) {
      trace.push_back(me * 10 + turn);
      local *= 2;
      fibers[me].swap_to(scheduler);
    }
    trace.push_back(static_cast<int>(local));
    fibers[me].swap_to(scheduler);
  }
};

using Switches = testing::Types<
#if defined(__x86_64__)
    NativeSwitch,
#endif
    PortableSwitch>;
TYPED_TEST_SUITE(SwitchTest, Switches);

#if !defined(__SANITIZE_ADDRESS__)  // which must be informed of each switch, as the executor does
TYPED_TEST(SwitchTest, TwoFibersTakeTurns) {
  using R = Rig<TypeParam>;
  constexpr size_t kStackBytes = 64 * 1024;
  std::vector<char> stacks(2 * kStackBytes + 16);
  char* aligned = stacks.data() + 16 - reinterpret_cast<uintptr_t>(stacks.data()) % 16;
  for (int i = 0; i < 2; ++i)
    R::fibers[i].prepare(aligned + i * kStackBytes, kStackBytes, &R::entry);
  for (int turn = 0; turn < 4; ++turn)
    for (R::running = 0; R::running < 2; ++R::running) R::scheduler.swap_to(R::fibers[R::running]);
  EXPECT_EQ(R::trace, (std::vector<int>{0, 10, 1, 11, 2, 12, 4, 12}));
}
#endif

}  // namespace
}  // namespace facet::emulated
