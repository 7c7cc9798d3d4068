// Incremental XXH3-128.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace facet {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void update(const void* data, int64_t bytes);
  // Of all bytes so far, as 32 hexadecimal digits.
  std::string digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Hasher in one call.
std::string hash_of(const void* data, int64_t bytes);

}  // namespace facet
