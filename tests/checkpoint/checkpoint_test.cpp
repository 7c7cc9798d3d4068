// Saving and loading a run's state. Run with 1, 2 and 3 ranks (scripts/run_tests.sh).
#include "checkpoint/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "io/file.h"
#include "io/hdf5_file.h"
#include "tests/checkpoint/checkpoint_rig.h"
#include "tests/checkpoint/disk_recorder.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

TEST(Checkpoint, RoundTrip) {
  SmallRun run;
  SharedDirectory directory(run.world);
  run.take_steps(3);
  run.save(directory.path());
  SmallRun fresh;
  ASSERT_NE(fresh.bits(), run.bits());
  const auto found = fresh.find(directory.path());
  ASSERT_TRUE(found);
  EXPECT_EQ(manifest_state_text(found->manifest.state), manifest_state_text(run.state));
  fresh.load(*found);
  EXPECT_EQ(fresh.bits(), run.bits());
  // Every rank's full copy, not only what it owns.
  for (size_t i = 0; i < run.table.params().size(); ++i) {
    const Param &a = run.table.params()[i], &b = fresh.table.params()[i];
    EXPECT_EQ(std::memcmp(a.value.f32(), b.value.f32(), static_cast<size_t>(a.value.bytes())), 0)
        << a.name;
  }
}

// The file is what it says: HDF5 finds the same numbers by name.
TEST(Checkpoint, IsOrdinaryHdf5) {
  SmallRun run;
  SharedDirectory directory(run.world);
  run.take_steps(2);
  const std::string place = run.save(directory.path());
  const Hdf5File file = Hdf5File::open(place + "/state.h5");
  for (const Param& param : run.table.params()) {
    EXPECT_EQ(file.exists("param/" + param.name), param.trained) << param.name;
    if (!param.trained) continue;
    const std::vector<float> values = file.read_f32("param/" + param.name + "/fp32");
    ASSERT_EQ(static_cast<int64_t>(values.size()), param.numel());
    EXPECT_EQ(std::memcmp(values.data(), param.value.f32(), values.size() * sizeof(float)), 0);
    EXPECT_TRUE(file.has_attribute("param/" + param.name + "/exp_avg_sq", "shape"));
  }
  EXPECT_EQ(file.read_attribute("/", "options"), run.state.options);
  EXPECT_EQ(file.read_attribute("param/a.bias/exp_avg", "group"), "no_decay");
}

TEST(Checkpoint, KeepsTheLastOnes) {
  SmallRun run;
  SharedDirectory directory(run.world);
  for (int i = 0; i < 4; ++i) {
    run.take_steps(1);
    run.save(directory.path(), 2);
  }
  EXPECT_EQ(published_steps(directory.path()), (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(read_file(directory.path() + "/latest", 100), "step_00000004\n");
}

TEST(Checkpoint, OlderOnesStayWhenTheyAreToBeKept) {
  SmallRun run;
  SharedDirectory directory(run.world);
  CheckpointStore store(directory.path(), 1, run.world);
  for (int i = 0; i < 4; ++i) {
    run.take_steps(1);
    if (i == 2) store.keep_older_ones();
    store.save(run.state, run.stored, run.engine->owned_state());
  }
  EXPECT_EQ(published_steps(directory.path()), (std::vector<int64_t>{2, 3, 4}));
}

TEST(Checkpoint, SavingAStepAgainReplacesIt) {
  SmallRun run;
  SharedDirectory directory(run.world);
  run.take_steps(1);
  run.save(directory.path());
  run.state.samples_seen = 77;
  run.save(directory.path());
  EXPECT_EQ(run.find(directory.path())->manifest.state.samples_seen, 77);
  int entries = 0;
  for (const auto& entry : fs::directory_iterator(directory.path()))
    entries += !entry.path().empty();
  EXPECT_EQ(entries, 2);  // the checkpoint and `latest`
}

TEST(Checkpoint, OtherParametersAreListed) {
  SmallRun run;
  SharedDirectory directory(run.world);
  run.take_steps(1);
  run.save(directory.path());
  const auto found = run.find(directory.path());
  run.stored.erase(run.stored.begin());
  const std::string error = error_of([&] { run.load(*found); });
  EXPECT_TRUE(mentions(error, "param/a.weight/fp32: in the checkpoint, not trained now"));
}

// Damage of every kind, anywhere in a checkpoint: found, and the one before taken; or without any
// effect on what is restored.
class Damage : public ::testing::Test {
 protected:
  Damage() : directory_(run_.world) {
    run_.take_steps(1);
    run_.save(directory_.path());
    older_ = run_.bits();
    run_.take_steps(1);
    run_.save(directory_.path());
    newer_ = run_.bits();
  }
  std::string file(const char* name) const { return directory_.path() + "/step_00000002/" + name; }
  // Restores with `path` holding `content`, then puts the file right.
  void restore_with(const std::string& path, const std::string& content, bool may_be_harmless) {
    const std::string good = read_file(path, 1 << 30);
    put(path, content);
    const auto found = run_.find(directory_.path());
    ASSERT_TRUE(found);
    run_.load(*found);
    const bool fell_back = found->manifest.state.step == 1;
    EXPECT_TRUE(fell_back || may_be_harmless) << path;
    EXPECT_TRUE(run_.bits() == (fell_back ? older_ : newer_)) << path;
    put(path, good);
  }
  void put(const std::string& path, const std::string& content) {
    run_.world.sum(int64_t{0});  // everyone has read what was there
    if (run_.world.rank() == 0) write_file(path, content);
    run_.world.sum(int64_t{0});
  }

  SmallRun run_;
  SharedDirectory directory_;
  std::string older_, newer_;
};

TEST_F(Damage, FourHundredBitFlips) {
  RandomStream stream(4, "flip");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 400 && !HasFailure(); ++i) {
    const bool latest = i % 20 == 19;
    const std::string path = latest       ? directory_.path() + "/latest"
                             : i % 4 == 3 ? file("manifest.json")
                                          : file("state.h5");
    std::string content = read_file(path, 1 << 30);
    const uint64_t bit = stream.below(content.size() * 8);
    content[bit / 8] = static_cast<char>(content[bit / 8] ^ (1 << (bit % 8)));
    restore_with(path, content, latest);
  }
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(run_.world.rank() != 0 || mentions(warnings, "is not used: "));
}

TEST_F(Damage, Truncations) {
  RandomStream stream(5, "cut");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 40 && !HasFailure(); ++i) {
    const std::string path = file(i % 2 == 0 ? "state.h5" : "manifest.json");
    std::string content = read_file(path, 1 << 30);
    content.resize(i < 2 ? 0 : stream.below(content.size()));
    restore_with(path, content, false);
  }
  restore_with(file("state.h5"), read_file(file("state.h5"), 1 << 30) + '\0', false);
  restore_with(file("manifest.json"), read_file(file("manifest.json"), 1 << 30) + ' ', false);
  testing::internal::GetCapturedStderr();
}

// The hash is right, the numbers are not: no reason to end with an internal error.
TEST_F(Damage, ImpossibleNumbersInAManifest) {
  testing::internal::CaptureStderr();
  const Manifest good = read_manifest(directory_.path() + "/step_00000002");
  const auto restore = [&](const std::function<void(Manifest&)>& change) {
    Manifest manifest = good;
    change(manifest);
    restore_with(file("manifest.json"), manifest.text(), false);
  };
  restore([](Manifest& m) { m.arrays[0].offset = m.arrays[1].offset; });
  restore([](Manifest& m) { m.arrays[0].offset = -8; });
  restore([](Manifest& m) { m.arrays[0].shape.assign(4, int64_t{1} << 20); });
  restore([](Manifest& m) { m.state.optimizer_steps = -1; });
  restore([](Manifest& m) { m.file_bytes = INT64_MAX; });
  testing::internal::GetCapturedStderr();
}

// Whoever knows more of the state may refuse it.
TEST_F(Damage, AStateThatIsRefused) {
  testing::internal::CaptureStderr();
  const auto found = CheckpointStore(directory_.path(), 2, run_.world)
                         .find_newest([](const RunState& state, const std::string& directory) {
                           CHECK(state.step != 2, ExitCode::kBadData, "{}: no", directory);
                         });
  testing::internal::GetCapturedStderr();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->manifest.state.step, 1);
}

TEST_F(Damage, SwappedFiles) {
  testing::internal::CaptureStderr();
  const std::string before = directory_.path() + "/step_00000001/";
  restore_with(file("state.h5"), read_file(before + "state.h5", 1 << 30), false);
  restore_with(file("manifest.json"), read_file(before + "manifest.json", 1 << 30), false);
  testing::internal::GetCapturedStderr();
}

// Four is good, eight is damaged: of what follows the last two are kept, without it.
TEST(Checkpoint, ADamagedOneIsNotKeptInPlaceOfAGoodOne) {
  SmallRun run;
  SharedDirectory directory(run.world);
  CheckpointStore store(directory.path(), 2, run.world);
  const auto save_step = [&](int64_t step) {
    run.state.step = step;
    store.save(run.state, run.stored, run.engine->owned_state());
  };
  for (const int64_t step : {4, 8}) save_step(step);
  if (run.world.rank() == 0) write_file(directory.path() + "/step_00000008/manifest.json", "{}");
  run.world.sum(int64_t{0});
  testing::internal::CaptureStderr();
  EXPECT_EQ(store.find_newest()->manifest.state.step, 4);
  testing::internal::GetCapturedStderr();
  const auto steps = [&] {
    run.world.sum(int64_t{0});
    return published_steps(directory.path());
  };
  save_step(6);
  EXPECT_EQ(steps(), (std::vector<int64_t>{4, 6, 8}));
  save_step(9);
  EXPECT_EQ(steps(), (std::vector<int64_t>{6, 8, 9}));
  // Written again it counts.
  save_step(8);
  EXPECT_EQ(steps(), (std::vector<int64_t>{6, 8, 9}));
  save_step(10);
  EXPECT_EQ(steps(), (std::vector<int64_t>{9, 10}));
}

// Killed between the two renames of a file system that can't swap names.
TEST(Checkpoint, OneThatWasBeingReplacedGetsItsNameBack) {
  SmallRun run;
  SharedDirectory directory(run.world);
  for (int i = 0; i < 2; ++i) {
    run.take_steps(1);
    run.save(directory.path());
  }
  const std::string newest = directory.path() + "/step_00000002";
  if (run.world.rank() == 0) fs::rename(newest, newest + ".replaced-4711");
  run.world.sum(int64_t{0});
  EXPECT_EQ(run.find(directory.path())->manifest.state.step, 2);
  run.world.sum(int64_t{0});
  EXPECT_FALSE(fs::exists(newest + ".replaced-4711"));
}

// In the directory of checkpoints too a user's files are a user's.
TEST_F(Damage, OnlyOwnLeftoversAreRemoved) {
  const std::vector<std::string> own = {"/step_00000007.partial-12", "/step_00000001.removed-3"};
  const std::vector<std::string> others = {"/thesis.partial-2", "/step_7.partial-1", "/step_5"};
  if (run_.world.rank() == 0)
    for (const auto* names : {&own, &others})
      for (const std::string& name : *names) fs::create_directory(directory_.path() + name);
  run_.world.sum(int64_t{0});
  EXPECT_EQ(run_.find(directory_.path())->manifest.state.step, 2);
  run_.world.sum(int64_t{0});
  for (const std::string& name : own) EXPECT_FALSE(fs::exists(directory_.path() + name)) << name;
  for (const std::string& name : others) EXPECT_TRUE(fs::exists(directory_.path() + name)) << name;
}

// What can't be listed or read is neither absent nor damaged.
TEST_F(Damage, ADiskThatCannotBeReadIsAnError) {
  const bool fails = run_.world.rank() == run_.world.size() - 1;
  for (const char* name : {"step_00000002/manifest.json", "step_00000002/state.h5"}) {
    if (fails) fail_reads_of(name);
    const std::string error = error_of([&] { run_.find(directory_.path()); });
    fail_reads_of("");
    EXPECT_TRUE(mentions(error, "74: ")) << name;
    EXPECT_TRUE(mentions(error, "reading failed")) << name;
  }
  EXPECT_EQ(run_.find(directory_.path())->manifest.state.step, 2);
  EXPECT_TRUE(mentions(error_of([&] { run_.find(file("state.h5")); }), "cannot be listed"));
}

TEST_F(Damage, NothingLeftIsAnError) {
  for (const char* step : {"/step_00000001", "/step_00000002"})
    put(directory_.path() + step + "/manifest.json", "{}");
  testing::internal::CaptureStderr();
  EXPECT_TRUE(mentions(error_of([&] { run_.find(directory_.path()); }),
                       "none of the 2 checkpoints can be used"));
  testing::internal::GetCapturedStderr();
}

// A limit on file sizes simulates a full disk: it is met at every size, in every part of a save.
TEST_F(Damage, FullDiskLeavesTheOlderOnes) {
  std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit unlimited {};
  getrlimit(RLIMIT_FSIZE, &unlimited);
  const auto whole = static_cast<rlim_t>(fs::file_size(file("state.h5")));
  run_.take_steps(1);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{1}, rlim_t{100}, rlim_t{1000}, rlim_t{2048},
                             rlim_t{4096}, whole / 4, whole / 2, whole * 3 / 4, whole - 1}) {
    struct rlimit small = unlimited;
    small.rlim_cur = limit;
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string error = error_of([&] { run_.save(directory_.path()); });
    setrlimit(RLIMIT_FSIZE, &unlimited);
    run_.world.sum(int64_t{0});  // rank 0 has cleaned up
    EXPECT_TRUE(mentions(error, "74: ")) << limit;
    EXPECT_TRUE(mentions(error, directory_.path())) << limit;
    EXPECT_EQ(published_steps(directory_.path()), (std::vector<int64_t>{1, 2})) << limit;
    for (const auto& entry : fs::directory_iterator(directory_.path()))
      EXPECT_EQ(entry.path().string().find("partial"), std::string::npos) << limit;
    run_.world.sum(int64_t{0});  // all have looked
  }
  const auto found = run_.find(directory_.path());
  run_.load(*found);
  EXPECT_TRUE(run_.bits() == newer_);
  // And with room again the same run saves.
  run_.save(directory_.path());
  EXPECT_EQ(run_.find(directory_.path())->manifest.state.step, 3);
}

}  // namespace
}  // namespace facet
