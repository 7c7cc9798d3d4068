// Lists of cores, where they are, and the table of all ranks.
#include "train/binding.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <thread>

#include "tests/io/temporary_directory.h"
#include "train/cores.h"

namespace facet {
namespace {

TEST(CoresTest, ListsAreReadAndWritten) {
  for (const char* list : {"", "0", "3", "0-7", "0-3,8", "0,2,4-6,1000"})
    EXPECT_EQ(core_list(parse_core_list(list)), list);
  EXPECT_EQ(core_list({0, 1, 3}), "0-1,3");
  EXPECT_EQ(parse_core_list("4-6\n"), (Cores{4, 5, 6}));
  for (const char* wrong : {"x", "-1", "5-3", "99999999999", "0-99999999"})
    EXPECT_TRUE(parse_core_list(wrong).empty()) << wrong;
}

TEST(CoresTest, NumaNodesAreThoseOfTheCores) {
  const TemporaryDirectory system;
  system.put("node/node0/cpulist", "0-3,8-11\n");
  system.put("node/node1/cpulist", "4-7,12-15\n");
  system.put("node/node10/cpulist", "\n");  // memory without cores
  system.put("node/possible", "0-1\n");
  EXPECT_EQ(numa_nodes_of({0, 1}, system.path()), "0");
  EXPECT_EQ(numa_nodes_of({12}, system.path()), "1");
  EXPECT_EQ(numa_nodes_of({3, 4}, system.path()), "0-1");
  EXPECT_EQ(numa_nodes_of({16}, system.path()), "");
  EXPECT_EQ(numa_nodes_of({0}, system / "none"), "");
}

TEST(CoresTest, HardwareThreadsAreOneCore) {
  const TemporaryDirectory system;
  system.put("cpu/cpu3/topology/thread_siblings_list", "3,67\n");
  EXPECT_TRUE(is_one_core({3}, system.path()));
  EXPECT_TRUE(is_one_core({3, 67}, system.path()));
  EXPECT_FALSE(is_one_core({3, 4}, system.path()));
  EXPECT_FALSE(is_one_core({5, 6}, system.path()));
  EXPECT_FALSE(is_one_core({}, system.path()));
}

// In a thread of its own, which is bound and then looked at.
TEST(CoresTest, AskingForAllCoresLeavesThemBound) {
  const int64_t all = usable_cores();
  std::thread([&] {
    const int core = bound_cores().back();
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(core), &set);
    ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
    EXPECT_EQ(usable_cores(), all);
    EXPECT_EQ(bound_cores(), Cores{core});
  }).join();
}

TEST(BindingTest, EqualRanksAreALine) {
  const RankBinding a{"n1", "0-7", "0", 4, ""}, b{"n2", "0-7", "0", 4, ""};
  EXPECT_EQ(binding_text({a, a, a, b}),
            "binding:\n"
            "  rank  host  cores  threads  NUMA  GPU\n"
            "  0-2   n1    0-7    4        0     -\n"
            "  3     n2    0-7    4        0     -");
  EXPECT_TRUE(mentions(binding_text({{"n1", "0", "", 1, "1 NVIDIA H200"}}),
                       "\n  0     n1    0      1        -     1 NVIDIA H200"));
}

TEST(BindingTest, AThousandRanksAreAScreen) {
  std::vector<RankBinding> ranks;
  for (int r = 0; r < 1000; ++r) ranks.push_back({"n", std::to_string(r), "0", 1, ""});
  const std::string text = binding_text(ranks);
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 40);
  EXPECT_TRUE(mentions(text, "and 968 more such lines"));
}

TEST(BindingTest, OfThisProcess) {
  Communicator world(MPI_COMM_SELF);
  const ComputeDevice device(nullptr, ComputeDevice::Takes::kFp32, {3, "1 a GPU"});
  const std::vector<RankBinding> ranks = gather_binding(world, "here", device);
  ASSERT_EQ(ranks.size(), 1U);
  EXPECT_EQ(ranks[0].host, "here");
  EXPECT_EQ(ranks[0].cores, core_list(bound_cores()));
  EXPECT_EQ(ranks[0].threads, 3);
  EXPECT_EQ(ranks[0].gpu, "1 a GPU");
}

}  // namespace
}  // namespace facet
