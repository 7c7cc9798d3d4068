// Copies from device to host memory that the host does not wait for one by one: they land in
// page-locked memory, because CUDA makes the host wait for every copy to other memory, and reach
// their destinations together, once the host has waited for the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "device/cuda/stream.h"

namespace facet {

class PinnedInbox {
 public:
  // Copies run on `stream`, which must outlive the inbox. It begins with `bytes` bytes and grows to
  // what is outstanding at most.
  PinnedInbox(const Stream& stream, int64_t bytes);
  ~PinnedInbox();
  PinnedInbox(const PinnedInbox&) = delete;
  PinnedInbox& operator=(const PinnedInbox&) = delete;

  // `to` is written by the next deliver() and must exist until then, or until drop().
  void copy(void* to, const void* from, int64_t bytes);
  // Waits for the stream if anything is outstanding. If that throws, nothing is any more.
  void deliver();
  // Whatever is outstanding will not be delivered.
  void drop();

 private:
  struct Block {
    char* memory;
    int64_t capacity;
  };
  struct Letter {
    void* to;
    const char* landed;
    int64_t bytes;
  };
  char* reserve(int64_t bytes);
  void add_block(int64_t bytes);

  const Stream& stream_;
  std::vector<Block> blocks_;
  size_t block_ = 0;  // that is being filled
  int64_t used_ = 0;  // of it
  std::vector<Letter> outstanding_;
};

}  // namespace facet
