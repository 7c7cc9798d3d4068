// Cores are divided among the ranks that may use them.
#include "train/threads.h"

#include <gtest/gtest.h>

#include "tests/environment.h"
#include "tests/failing_threads.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

// On a host, bound to a list of cores.
RankCores on(const char* host, const char* cores) {
  return {.host = host, .bound = parse_core_list(cores)};
}

TEST(Threads, CoresAreSharedByTheRanksBoundToThem) {
  // Two ranks on all four cores of one host, one rank alone on another host of the same size.
  const std::vector<RankCores> shared = {on("a", "0-3"), on("a", "0-3"), on("b", "0-3")};
  EXPECT_EQ(share_of_cores(shared, 0), 2);
  EXPECT_EQ(share_of_cores(shared, 1), 2);
  EXPECT_EQ(share_of_cores(shared, 2), 4);
  // Each rank bound to its own cores; then overlapping.
  EXPECT_EQ(share_of_cores({on("a", "0-1"), on("a", "2-3")}, 1), 2);
  EXPECT_EQ(share_of_cores({on("a", "0-2"), on("a", "2")}, 0), 2.5);
  EXPECT_EQ(share_of_cores({on("a", "0-2"), on("a", "2")}, 1), 0.5);
}

// Bound to one core of a host that has `usable` of them.
RankCores bound(const char* host, const char* core, int64_t usable) {
  RankCores rank = on(host, core);
  rank.usable = usable;
  rank.one_core = true;
  return rank;
}

TEST(Threads, ARankBoundToOneCoreOfManyIsToldOf) {
  EXPECT_EQ(bound_to_one_core({bound("n1", "5", 64)}),
            "rank 0 (host n1) is bound to one core (5) although its host has 64 for 1 rank: give "
            "mpirun --bind-to none or --map-by slot:PE=64, srun --cpus-per-task=64");
  // One rank on each of two hosts; two on one host.
  EXPECT_TRUE(mentions(bound_to_one_core({bound("n1", "1", 2), bound("n2", "1", 2)}),
                       "2 for 1 rank: give mpirun --bind-to none or --map-by slot:PE=2, srun "
                       "--cpus-per-task=2; 1 more of the ranks likewise"));
  EXPECT_TRUE(mentions(bound_to_one_core({bound("n1", "0", 8), bound("n1", "1", 8)}),
                       "8 for 2 ranks: give mpirun --bind-to none or --map-by slot:PE=4, "));
  // Both hardware threads of a core.
  EXPECT_TRUE(mentions(bound_to_one_core({bound("n1", "3,67", 128)}), "PE=128"));
}

TEST(Threads, ARankBoundAsItShouldBeIsNot) {
  EXPECT_EQ(bound_to_one_core({bound("n1", "0", 1)}), "");
  EXPECT_EQ(bound_to_one_core({bound("n1", "0", 2), bound("n1", "1", 2)}), "");
  EXPECT_EQ(bound_to_one_core({bound("n1", "3,67", 2)}), "");
  RankCores free = bound("n1", "0-63", 64);
  free.one_core = false;
  EXPECT_EQ(bound_to_one_core({free}), "");
  RankCores asked_for_one = bound("n1", "5", 64);
  asked_for_one.most_threads = 1;
  EXPECT_EQ(bound_to_one_core({asked_for_one}), "");
}

// nullptr: not set.
void set_variables(Environment& environment, const char* slurm, const char* openmp) {
  const auto set = [&](const char* name, const char* value) {
    if (value != nullptr) environment.set(name, value);
    if (value == nullptr) environment.remove(name);
  };
  set("SLURM_CPUS_PER_TASK", slurm);
  set("OMP_NUM_THREADS", openmp);
}

TEST(Threads, TheSurroundingsAllowTheSmallerNumber) {
  const auto allowed = [](const char* slurm, const char* openmp) {
    Environment environment;
    set_variables(environment, slurm, openmp);
    const AllowedThreads is = AllowedThreads::of_this_process();
    EXPECT_EQ(is.ignored, "");
    return fmt::format("{} {}", is.most == AllowedThreads::kNoLimit ? 0 : is.most, is.by);
  };
  EXPECT_EQ(allowed(nullptr, nullptr), "0 ");
  EXPECT_EQ(allowed("8", nullptr), "8 SLURM_CPUS_PER_TASK");
  EXPECT_EQ(allowed("8", "4"), "4 OMP_NUM_THREADS");
  EXPECT_EQ(allowed("8", "16"), "8 SLURM_CPUS_PER_TASK");
  EXPECT_EQ(allowed(nullptr, " 6 , 2"), "6 OMP_NUM_THREADS");
}

TEST(Threads, VariablesThatAreNoNumberAreIgnoredAndToldOf) {
  for (const char* wrong : {"", "0", "-4", "abc", "4x", "4.5", "99999999999999999999", "4 2"}) {
    Environment environment;
    set_variables(environment, "8", wrong);
    const AllowedThreads is = AllowedThreads::of_this_process();
    EXPECT_EQ(is.most, 8);
    EXPECT_EQ(is.ignored, fmt::format("OMP_NUM_THREADS='{}'", wrong));
  }
}

// What the variables say, unless --threads is given.
TEST(Threads, TheVariablesCountWithoutTheOption) {
  Communicator world(MPI_COMM_SELF);
  Environment environment;
  set_variables(environment, "x\n", "1");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose_threads(world, "host", 0), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "warning: no number of threads, and ignored: SLURM_CPUS_PER_TASK='x\\n'; set a whole "
            "number from 1 on, or --threads\n");
  EXPECT_EQ(choose_threads(world, "host", 2), 2);
  EXPECT_TRUE(mentions(testing::internal::GetCapturedStdout(), "1 rank, 2 compute threads each\n"));
}

// OpenMP would end the process.
TEST(Threads, ThoseThatCannotStartAreAnError) {
  Communicator world(MPI_COMM_SELF);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  std::string error;
  {
    const ThreadLimit limit(2);
    error = error_of([&] { choose_threads(world, "host", 4); });
  }
  EXPECT_EQ(choose_threads(world, "host", 3), 3);
  testing::internal::GetCapturedStdout();
  testing::internal::GetCapturedStderr();
  EXPECT_TRUE(mentions(error, "71: can't start a thread for computing: "));
}

}  // namespace
}  // namespace facet
