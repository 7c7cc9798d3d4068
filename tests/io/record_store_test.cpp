#include "io/record_store.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <map>

#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBytes = 100;  // of a record in these tests

RecordKey key(uint64_t number) { return {number * 0x9e3779b97f4a7c15, number}; }

std::vector<std::byte> content(uint64_t number) {
  std::vector<std::byte> bytes(kBytes);
  for (size_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<std::byte>(number * 31 + i);
  return bytes;
}

class RecordStoreTest : public testing::Test {
 protected:
  // Another process's store: each has a name of its own.
  std::unique_ptr<RecordStore> open(const std::string& host = "here", RecordRoom room = {}) const {
    return std::make_unique<RecordStore>(directory_.path(), host, room);
  }
  void fill(const std::string& host, uint64_t begin, uint64_t end) const {
    const auto store = open(host);
    for (uint64_t n = begin; n < end; ++n) store->add(key(n), content(n));
  }
  // The file of `host` with that ending.
  std::string file(const std::string& host, const std::string& ending) const {
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("records-" + host + "-") && name.ends_with(ending)) return entry.path();
    }
    return "";
  }
  static bool holds(RecordStore& store, uint64_t number) {
    std::vector<std::byte> bytes(kBytes);
    if (!store.find(key(number), bytes)) return false;
    EXPECT_EQ(bytes, content(number)) << "record " << number;
    return true;
  }
  std::string read(const std::string& path) const { return read_file(path, 1 << 20); }
  void write(const std::string& path, const std::string& text) const {
    directory_.put(fs::path(path).filename().string(), text);
  }

  TemporaryDirectory directory_;
};

TEST_F(RecordStoreTest, WhatWasAddedIsFoundAfterRefreshHereAndElsewhere) {
  const auto here = open("here"), there = open("there");
  here->add(key(1), content(1));
  there->add(key(2), content(2));
  EXPECT_FALSE(here->contains(key(1)));  // what is found does not depend on who computed it
  EXPECT_TRUE(here->was_added(key(1)));
  for (RecordStore* const store : {here.get(), there.get()}) {
    store->refresh();
    EXPECT_TRUE(holds(*store, 1) && holds(*store, 2));
    EXPECT_FALSE(store->contains(key(3)) || holds(*store, 3));
    EXPECT_EQ(store->records(), 2);
    EXPECT_TRUE(store->take_words().empty());
  }
  here->add(key(3), content(3));
  there->refresh();
  EXPECT_TRUE(holds(*there, 3));
  EXPECT_EQ(there->records(), 3);
}

TEST_F(RecordStoreTest, ARecordIsAddedOnce) {
  fill("first", 0, 2);
  const auto store = open();
  for (int turn = 0; turn < 2; ++turn)
    for (uint64_t n = 0; n < 3; ++n) store->add(key(n), content(n));
  EXPECT_EQ(fs::file_size(file("here", ".data")), kBytes);
  EXPECT_EQ(store->bytes_added(), static_cast<int64_t>(kBytes) + 64);
}

// A process that was killed, or whose writes came to the disk in part: at every byte of the last
// record and of its entry.
TEST_F(RecordStoreTest, OfARecordThatIsCutNothingIsBelieved) {
  fill("here", 0, 3);
  const std::string data = file("here", ".data"), index = file("here", ".index");
  const std::string all_data = read(data), all_index = read(index);
  ASSERT_EQ(all_data.size(), 3 * kBytes);
  ASSERT_EQ(all_index.size(), size_t{4 * 64});
  for (size_t end = 3 * 64; end < 4 * 64; ++end) {
    write(index, all_index.substr(0, end));
    const auto store = open();
    EXPECT_TRUE(holds(*store, 0) && holds(*store, 1)) << end;
    EXPECT_FALSE(store->contains(key(2))) << end;
    EXPECT_TRUE(store->take_words().empty()) << end;
  }
  write(index, all_index);
  for (size_t end = 2 * kBytes; end < 3 * kBytes; ++end) {
    write(data, all_data.substr(0, end));
    const auto store = open("other");
    EXPECT_TRUE(holds(*store, 0) && holds(*store, 1)) << end;
    EXPECT_FALSE(holds(*store, 2)) << end;
    EXPECT_EQ(store->damaged(), 1);
    store->add(key(2), content(2));  // made again
    store->refresh();
    EXPECT_TRUE(holds(*store, 2)) << end;
    fs::remove(file("other", ".data"));
    fs::remove(file("other", ".index"));
  }
}

TEST_F(RecordStoreTest, EveryDamagedByteIsNoticed) {
  fill("here", 0, 3);
  const std::string data = file("here", ".data"), index = file("here", ".index");
  const std::string all_data = read(data), all_index = read(index);
  for (size_t at = kBytes; at < 2 * kBytes; ++at) {
    std::string damaged = all_data;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    write(data, damaged);
    const auto store = open();
    EXPECT_TRUE(holds(*store, 0) && holds(*store, 2)) << at;
    EXPECT_FALSE(holds(*store, 1)) << at;
    EXPECT_TRUE(mentions(fmt::format("{}", fmt::join(store->take_words(), " ")),
                         "the record at byte 100 is damaged; it is made again"));
  }
  write(data, all_data);
  for (size_t at = 2 * 64; at < 3 * 64; ++at) {
    std::string damaged = all_index;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    write(index, damaged);
    const auto store = open();
    EXPECT_TRUE(holds(*store, 0) && holds(*store, 2)) << at;
    EXPECT_FALSE(holds(*store, 1)) << at;
    EXPECT_EQ(store->damaged(), 1) << at;
  }
  write(index, "rubbish" + all_index);
  const auto store = open();
  EXPECT_EQ(store->records(), 0);
  EXPECT_TRUE(
      mentions(fmt::format("{}", fmt::join(store->take_words(), " ")), "not an index of records"));
}

TEST_F(RecordStoreTest, AnIndexOfAnotherKindIsToldOnceAndLeftAlone) {
  fill("there", 0, 2);
  const std::string index = file("there", ".index");
  std::string other = read(index);
  ASSERT_EQ(other.substr(0, 16), "facet records 1\n");
  other[14] = '2';
  write(index, other);
  const auto store = open();
  store->refresh();
  EXPECT_EQ(store->records(), 0);
  EXPECT_EQ(store->damaged(), 1);
  EXPECT_EQ(store->take_words().size(), 1);
}

// An entry that comes to sight in two pieces is read when it is whole.
TEST_F(RecordStoreTest, AnEntryOnItsWayIsWaitedFor) {
  fill("there", 0, 2);
  const std::string index = file("there", ".index");
  const std::string all = read(index);
  for (const std::string& half :
       {all.substr(0, 2 * 64 + 30), all.substr(0, 2 * 64 + 30) + std::string(34, '\0')}) {
    write(index, half);
    const auto store = open();
    EXPECT_FALSE(store->contains(key(1)));
    write(index, all);
    store->refresh();
    EXPECT_TRUE(holds(*store, 0) && holds(*store, 1));
    EXPECT_EQ(store->records(), 2);
    EXPECT_EQ(store->damaged(), 0);
  }
}

TEST_F(RecordStoreTest, AFullStoreTakesNoMoreAndSaysSo) {
  constexpr int64_t kRecord = kBytes + 64;
  const auto own = open("own", {.own = 2 * kRecord + 1, .directory = directory_.path()});
  for (uint64_t n = 0; n < 4; ++n) own->add(key(n), content(n));
  EXPECT_EQ(own->bytes_added(), 2 * kRecord);
  EXPECT_TRUE(mentions(fmt::format("{}", fmt::join(own->take_words(), " ")), "is full"));
  own->refresh();
  EXPECT_TRUE(holds(*own, 0) && holds(*own, 1));
  EXPECT_FALSE(own->contains(key(2)));

  const int64_t used = RecordStore::bytes_below(directory_.path());
  EXPECT_EQ(used, 2 * kRecord + 64);
  const auto late = open("late", {.limit = used + kRecord - 1, .directory = directory_.path()});
  late->add(key(9), content(9));
  EXPECT_EQ(late->bytes_added(), 0);
  EXPECT_EQ(file("late", ".data"), "");
}

// The writer that meets a full disk (here a limit of the process) stops; what it had written stays.
TEST_F(RecordStoreTest, AFailedWriteEndsAddingAndNothingElse) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{5 * kBytes / 2, 5 * kBytes / 2};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto store = open();
    for (uint64_t n = 0; n < 5; ++n) store->add(key(n), content(n));
    const bool told = store->take_words().size() == 1 && store->bytes_added() == 2 * (kBytes + 64);
    ::_exit(told ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const auto store = open();
  EXPECT_TRUE(holds(*store, 0) && holds(*store, 1));
  EXPECT_EQ(store->records(), 2);
  EXPECT_EQ(store->damaged(), 0);
}

// Files that are there are not touched, and links of a writer's name are not followed.
TEST_F(RecordStoreTest, OnlyOwnNewFilesAreWritten) {
  const std::string victim = directory_.put("victim", "mine");
  const std::string name = fmt::format("{}/records-here-{}", directory_.path(), ::getpid());
  fs::create_symlink(victim, name + ".data");
  fill("here", 0, 1);
  const std::string lone = directory_.put(fs::path(name + "-2.index").filename().string(), "left");
  fill("here", 1, 2);
  EXPECT_EQ(read(victim), "mine");
  EXPECT_EQ(read(lone), "left");
  EXPECT_TRUE(fs::exists(name + "-1.index") && fs::exists(name + "-3.index"));
  EXPECT_FALSE(fs::exists(name + "-2.data"));
  const auto store = open("late");
  EXPECT_TRUE(holds(*store, 0) && holds(*store, 1));
}

TEST_F(RecordStoreTest, ManyFilesAreRead) {
  constexpr uint64_t kFiles = 150;  // more than stay open
  for (uint64_t n = 0; n < kFiles; ++n) fill(fmt::format("host{}", n), n, n + 1);
  const auto store = open();
  for (int turn = 0; turn < 2; ++turn)
    for (uint64_t n = 0; n < kFiles; ++n) EXPECT_TRUE(holds(*store, n)) << n;
}

// Killed with SIGKILL while it adds, at some moment of its own.
TEST_F(RecordStoreTest, AKilledWriterLeavesWholeRecordsOnly) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto store = open("killed");
    for (uint64_t n = 0;; ++n) store->add(key(n), content(n));
  }
  const auto store = open();
  while (store->records() < 50) store->refresh();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  store->refresh();
  const auto records = static_cast<uint64_t>(store->records());
  for (uint64_t n = 0; n < records; ++n) ASSERT_TRUE(holds(*store, n)) << n << " of " << records;
  EXPECT_EQ(store->damaged(), 0);
}

}  // namespace
}  // namespace facet
