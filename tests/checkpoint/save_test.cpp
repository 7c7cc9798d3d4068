// How a save goes: in the background or through parallel HDF5, what it flushes, how it fails. Run
// with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "base/timer.h"
#include "io/file.h"
#include "io/hdf5_file.h"
#include "io/shared_file.h"
#include "tests/checkpoint/checkpoint_rig.h"
#include "tests/checkpoint/disk_recorder.h"
#include "tests/failing_threads.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

// The arrays and their hashes: all of a manifest but the place and the bytes around the arrays.
std::string hashes_of(const std::string& checkpoint) {
  std::string text;
  for (const StoredArray& array : read_manifest(checkpoint).arrays)
    for (const StoredRange& range : array.ranges)
      text += fmt::format("{} {} {} {}\n", array.name, range.begin, range.count, range.hash);
  return text;
}

// A store whose moments the test watches.
struct Rig {
  explicit Rig(CheckpointIo io = CheckpointIo::kPosix)
      : directory(run.world),
        store(
            directory.path(), 2, run.world,
            [this](const char* moment, int64_t) {
              if (at_moment) at_moment(moment);
            },
            io) {
    run.take_steps(2);
  }
  void start() { store.start_save(run.state, run.stored, run.engine->owned_state()); }
  std::string save() { return store.save(run.state, run.stored, run.engine->owned_state()); }
  bool nothing_half_written() {
    run.world.sum(int64_t{0});  // rank 0 has cleaned up
    bool clean = true;
    for (const auto& entry : fs::directory_iterator(directory.path()))
      clean = clean && entry.path().string().find("partial") == std::string::npos;
    run.world.sum(int64_t{0});  // all have looked
    return clean;
  }

  SmallRun run;
  SharedDirectory directory;
  std::function<void(const std::string&)> at_moment;
  CheckpointStore store;
};

// The run goes on without the save, and may save again.
TEST(BackgroundSave, AThreadThatCannotStartIsAnErrorOnAllRanks) {
  Rig rig;
  std::string error;
  {
    const ThreadLimit limit(rig.run.world.rank() == rig.run.world.size() - 1 ? 0 : 100);
    error = error_of([&] { rig.start(); });
  }
  EXPECT_TRUE(mentions(error, "71: "));
  EXPECT_TRUE(mentions(error, "can't start a thread for writing the checkpoint"));
  EXPECT_FALSE(rig.store.saving());
  EXPECT_TRUE(rig.nothing_half_written());
  rig.start();
  EXPECT_TRUE(rig.store.finish_save().ends_with("step_00000002"));
}

// What only removes faster with a thread works without.
TEST(Save, RemovesOldOnesWithoutAThread) {
  Rig rig;
  const ThreadLimit limit(0);
  for (int64_t step = 2; step < 5; ++step) {
    rig.run.state.step = step;
    rig.save();
  }
  rig.run.world.sum(int64_t{0});
  for (const auto& entry : fs::directory_iterator(rig.directory.path()))
    EXPECT_EQ(entry.path().string().find("removed"), std::string::npos);
  EXPECT_EQ(published_steps(rig.directory.path()), (std::vector<int64_t>{3, 4}));
  rig.run.world.sum(int64_t{0});  // all have looked
}

TEST(BackgroundSave, HoldsTheStateOfItsStart) {
  Rig rig;
  const std::string whole = rig.run.whole_state();
  rig.at_moment = [](const std::string& moment) {
    if (moment == "ckpt.write") std::this_thread::sleep_for(std::chrono::milliseconds(100));
  };
  const Timer timer;
  rig.start();
  EXPECT_LT(timer.seconds(), 0.1);
  EXPECT_TRUE(rig.store.saving());
  rig.run.take_steps(3);  // the state changes while it is written
  EXPECT_EQ(published_steps(rig.directory.path()), std::vector<int64_t>{});
  const std::string place = rig.store.finish_save();
  EXPECT_FALSE(rig.store.saving());
  EXPECT_TRUE(place.ends_with("step_00000002"));
  SmallRun fresh;
  const auto found = fresh.find(rig.directory.path());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->manifest.state.step, 2);
  fresh.load(*found);
  EXPECT_TRUE(fresh.whole_state() == whole);
}

TEST(BackgroundSave, HasTheSameBytesAsOneInTheForeground) {
  Rig rig;
  rig.start();
  const std::string background = hashes_of(rig.store.finish_save());
  EXPECT_EQ(hashes_of(rig.save()), background);
}

// The ranks ask in an exchange that they make anyway whether all threads are done.
TEST(BackgroundSave, IsOverWhenEveryRankHasWritten) {
  Rig rig;
  std::atomic<bool> may_go{false};
  rig.at_moment = [&](const std::string& moment) {
    const bool waits = moment == "ckpt.written" && rig.run.world.rank() == rig.run.world.size() - 1;
    while (waits && !may_go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  rig.start();
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(CheckpointStore::save_is_over(rig.run.world.bit_or(rig.store.progress_bits())));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  may_go = true;
  while (!CheckpointStore::save_is_over(rig.run.world.bit_or(rig.store.progress_bits())))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  rig.store.finish_save();
  EXPECT_EQ(published_steps(rig.directory.path()), std::vector<int64_t>{2});
}

// One rank fails in the middle; the others, still writing, stop.
TEST(BackgroundSave, AnErrorOnOneRankIsEverybodysWithinASecond) {
  Rig rig;
  rig.save();
  rig.run.take_steps(1);
  const int last = rig.run.world.size() - 1;
  rig.at_moment = [&](const std::string& moment) {
    if (moment == "ckpt.write" && rig.run.world.rank() == last)
      fail(ExitCode::kIo, "the disk is gone");
  };
  rig.start();
  const Timer timer;
  const std::string error = error_of([&] { rig.store.finish_save(); });
  EXPECT_LT(timer.seconds(), 1);
  EXPECT_TRUE(mentions(error, "74: "));
  EXPECT_TRUE(mentions(error, "the disk is gone"));
  EXPECT_FALSE(rig.store.saving());
  EXPECT_TRUE(rig.nothing_half_written());
  EXPECT_EQ(published_steps(rig.directory.path()), std::vector<int64_t>{2});
  // The next one succeeds.
  rig.at_moment = nullptr;
  rig.start();
  rig.store.finish_save();
  EXPECT_EQ(published_steps(rig.directory.path()), (std::vector<int64_t>{2, 3}));
}

TEST(BackgroundSave, GivenUpWithTheStoreLeavesNothing) {
  Rig rig;
  {
    CheckpointStore store(rig.directory.path(), 2, rig.run.world);
    store.start_save(rig.run.state, rig.run.stored, rig.run.engine->owned_state());
  }
  EXPECT_TRUE(rig.nothing_half_written());
  EXPECT_EQ(published_steps(rig.directory.path()), std::vector<int64_t>{});
}

TEST(CollectiveSave, HasTheSameBytesAsThePlainOne) {
  Rig plain, collective(CheckpointIo::kCollective);
  const std::string a = plain.save(), b = collective.save();
  EXPECT_EQ(hashes_of(a), hashes_of(b));
  EXPECT_EQ(read_manifest(a).file_bytes, read_manifest(b).file_bytes);
  EXPECT_TRUE(Hdf5File::open(a + "/state.h5").read_f32("param/b.embed.weight/exp_avg") ==
              Hdf5File::open(b + "/state.h5").read_f32("param/b.embed.weight/exp_avg"));
  SmallRun fresh;
  const auto found = fresh.find(collective.directory.path());
  ASSERT_TRUE(found);
  fresh.load(*found);
  EXPECT_TRUE(fresh.whole_state() == plain.run.whole_state());
}

// Changes a bit of the bytes that this rank has written into the file.
void damage_own_bytes(const std::string& path, const StateRange& range) {
  const std::string_view mine(reinterpret_cast<const char*>(range.value), sizeof(float) * 2);
  const size_t at = read_file(path, 1 << 30).find(mine);
  ASSERT_NE(at, std::string::npos);
  const char damaged = static_cast<char>(mine[0] ^ 1);
  const int fd = ::open(path.c_str(), O_WRONLY);
  EXPECT_EQ(::pwrite(fd, &damaged, 1, static_cast<off_t>(at)), 1);
  ::close(fd);
}

// What was damaged between memory and disk is found before the checkpoint gets its name: hashes
// come from memory.
TEST(Save, WhatDoesNotReadBackIsNotPublished) {
  Rig rig;
  const std::string path =
      fmt::format("{}/step_00000002.partial-{}/state.h5", rig.directory.path(),
                  rig.run.world.broadcast(static_cast<int64_t>(::getpid()), 0));
  const bool damages = rig.run.world.rank() == rig.run.world.size() - 1;
  const StateRange range = rig.run.engine->owned_state().front();
  rig.at_moment = [&](const std::string& moment) {
    if (moment == "ckpt.written" && damages) damage_own_bytes(path, range);
  };
  EXPECT_TRUE(mentions(error_of([&] { rig.save(); }), "do not read back"));
  rig.start();
  EXPECT_TRUE(mentions(error_of([&] { rig.store.finish_save(); }), "do not read back"));
  EXPECT_EQ(published_steps(rig.directory.path()), std::vector<int64_t>{});
}

// The position of the last call of that kind, -1: there is none.
int64_t last_call(const std::vector<DiskCall>& calls, DiskCall::Kind kind, const std::string& end) {
  int64_t last = -1;
  for (size_t i = 0; i < calls.size(); ++i)
    if (calls[i].kind == kind && calls[i].path.ends_with(end)) last = static_cast<int64_t>(i);
  return last;
}

class Flushes : public ::testing::TestWithParam<CheckpointIo> {};

// Without the flushes a crash of the machine could leave a name without its content.
TEST_P(Flushes, StandBeforeEveryName) {
  using Kind = DiskCall::Kind;
  Rig rig(GetParam());
  record_disk_calls();
  rig.save();
  std::vector<DiskCall> calls = recorded_disk_calls();
  EXPECT_GT(last_call(calls, Kind::kFlush, "state.h5"), last_call(calls, Kind::kWrite, "state.h5"));
  // What is read back comes from the disk.
  EXPECT_GT(last_call(calls, Kind::kForget, "state.h5"),
            last_call(calls, Kind::kFlush, "state.h5"));
  if (rig.run.world.rank() != 0) return;
  for (DiskCall& call : calls)  // before a file has its name
    if (const size_t at = call.path.rfind(".partial-");
        at != std::string::npos && call.path.find('/', at) == std::string::npos)
      call.path.resize(at);
  const int64_t named = last_call(calls, Kind::kRename, "step_00000002");
  const int64_t manifest = last_call(calls, Kind::kRename, "manifest.json");
  const int64_t latest = last_call(calls, Kind::kRename, "latest");
  ASSERT_GE(manifest, 0);
  EXPECT_LT(last_call(calls, Kind::kFlush, "state.h5"), named);
  EXPECT_LT(last_call(calls, Kind::kFlush, "manifest.json"), manifest);
  EXPECT_GE(last_call(calls, Kind::kFlush, "manifest.json"), 0);
  EXPECT_LT(manifest, last_call(calls, Kind::kFlush, "step_00000002"));
  EXPECT_LT(last_call(calls, Kind::kFlush, "step_00000002"), named);
  EXPECT_LT(named, latest);
  EXPECT_GE(last_call(calls, Kind::kFlush, "latest"), 0);
  EXPECT_LT(last_call(calls, Kind::kFlush, "latest"), latest);
  const std::string parent = rig.directory.path();
  EXPECT_TRUE(std::any_of(calls.begin() + named, calls.begin() + latest, [&](const DiskCall& call) {
    return call.kind == Kind::kFlush && call.path == parent;
  }));
  EXPECT_GT(last_call(calls, Kind::kFlush, parent), latest);
}

// No flush takes as long as a whole large checkpoint.
TEST(SharedFile, FlushesWhatHasComeTogether) {
  const TemporaryDirectory directory;
  SharedFile file = SharedFile::create(directory / "file");
  const std::string piece(kWritePieceBytes, 'x');
  record_disk_calls();
  for (int i = 0; i < 600; ++i) file.write_at(0, piece.data(), kWritePieceBytes);
  const std::vector<DiskCall> calls = recorded_disk_calls();
  EXPECT_EQ(std::count_if(calls.begin(), calls.end(),
                          [](const DiskCall& call) { return call.kind == DiskCall::Kind::kFlush; }),
            2);
}

INSTANTIATE_TEST_SUITE_P(Both, Flushes,
                         ::testing::Values(CheckpointIo::kPosix, CheckpointIo::kCollective));

}  // namespace
}  // namespace facet
