// Records of bytes under 128-bit keys in a directory that many processes, on many hosts, read and
// add to at once, without locks. Nothing is ever changed: each writer appends to two files of its
// own, and a record that is found damaged is superseded by another of the same key.
//
//   records-HOST-PID.data    the records' bytes, one behind the other
//   records-HOST-PID.index   a header of 64 bytes, then an entry of 64 bytes for each record:
//                              key (16), offset in .data (8), bytes (8), XXH3-128 of them (16),
//                              0 (8), XXH3-64 of the entry so far (8)
//
// An entry follows its record. What a killed process leaves is bytes without an entry, or the
// beginning of an entry, and neither is believed; nor are bytes that do not have the hash of their
// entry, whatever a lost host has made of them. A .index holds 1/8000 of the bytes that features of
// a common size take, and is all that has to be read to know what is there.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "io/input_file.h"

namespace facet {

using RecordKey = std::array<uint64_t, 2>;
// XXH3-128.
RecordKey record_key(const void* data, int64_t bytes);

struct RecordRoom {
  int64_t own = INT64_MAX;  // bytes that this writer may add
  // Once `directory` and what is below it hold so much, nothing more is added; looked at now and
  // then, as other runs may add too.
  int64_t limit = INT64_MAX;
  std::string directory;
};

class RecordStore {
 public:
  static constexpr int64_t kEntryBytes = 64;  // that a record takes beside its own

  // The directory exists. `host` becomes part of the names of this process's files.
  RecordStore(std::string directory, std::string host, RecordRoom room = {});
  ~RecordStore();
  RecordStore(const RecordStore&) = delete;
  RecordStore& operator=(const RecordStore&) = delete;

  // Reads the entries that have come since the last call, this process's own among them. What
  // cannot be read is left out, with a word.
  void refresh();

  // The record of this key, of exactly data.size() bytes; false if none is known since refresh(),
  // or none that is whole. Thread-safe.
  bool find(const RecordKey& key, std::span<std::byte> data);
  bool contains(const RecordKey& key) const;
  bool was_added(const RecordKey& key) const { return own_.contains(key); }  // by this process

  // Appends the record unless it is known or this process has added it already. Once something
  // cannot be written (a full disk, the room), nothing more is added, with a word. From one thread.
  void add(const RecordKey& key, std::span<const std::byte> data);
  bool adds() const { return adds_; }  // or has said that it no longer does
  // Flushes what was added to the disk.
  void sync();

  int64_t records() const;  // known
  int64_t bytes_added() const { return added_; }
  int64_t damaged() const { return damaged_; }  // records and entries met so far
  // What there is to tell since the last call, a line each.
  std::vector<std::string> take_words();

  // Bytes of the files below a directory; 0 if there is none.
  static int64_t bytes_below(const std::string& directory);

 private:
  struct Place {
    uint32_t file = 0;
    int64_t offset = 0, bytes = 0;
    std::array<uint64_t, 2> hash{};
  };
  struct File {
    std::string stem;         // path without .data and .index
    int64_t index_end = 0;    // bytes of the index that were read
    bool is_foreign = false;  // no index of this kind: left alone
    std::shared_ptr<const InputFile> data{};
  };
  struct KeyHash {
    size_t operator()(const RecordKey& key) const { return static_cast<size_t>(key[0]); }
  };
  struct Writer;

  void read_index(uint32_t number);
  std::vector<Place> places_of(const RecordKey& key) const;
  bool read_whole(const Place& place, std::span<std::byte> data);
  std::shared_ptr<const InputFile> data_file(uint32_t number);
  void forget(const RecordKey& key, const Place& place);
  bool has_room(int64_t bytes);
  void stop_adding(const std::string& why);
  void say(std::string word);

  const std::string directory_, host_;
  const RecordRoom room_;

  mutable std::shared_mutex mutex_;  // of the next three
  std::vector<File> files_;
  std::unordered_multimap<RecordKey, Place, KeyHash> places_;
  size_t next_to_close_ = 0;

  std::unique_ptr<Writer> writer_;  // once something was added
  std::unordered_set<RecordKey, KeyHash> own_;
  bool adds_ = true;
  int64_t looked_at_ = -1;  // bytes added when the limit was last looked at; -1: never
  int64_t added_ = 0;
  std::atomic<int64_t> damaged_{0};

  std::mutex words_mutex_;
  std::vector<std::string> words_;
};

}  // namespace facet
