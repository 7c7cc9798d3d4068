#include "io/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace facet {

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  if (state_->xxh == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh);
}

Hasher::~Hasher() = default;

void Hasher::update(const void* data, int64_t bytes) {
  XXH3_128bits_update(state_->xxh, data, static_cast<size_t>(bytes));
}

std::string Hasher::digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string hash_of(const void* data, int64_t bytes) {
  Hasher hasher;
  hasher.update(data, bytes);
  return hasher.digest();
}

}  // namespace facet
