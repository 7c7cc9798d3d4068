#include "checkpoint/frozen_hash.h"

#include <fmt/format.h>

#include "io/hash.h"

namespace facet {

namespace {

uint64_t hash_of_param(const Param& param) {
  Hasher hasher;
  hasher.update(param.name.data(), static_cast<int64_t>(param.name.size()));
  hasher.update(param.shape.data(), static_cast<int64_t>(param.shape.size() * sizeof(int64_t)));
  hasher.update(param.value.f32(), param.value.bytes());
  return std::stoull(hasher.digest().substr(16), nullptr, 16);
}

}  // namespace

std::string frozen_hash(const ParamTable& table, Engine& engine, Communicator& world) {
  uint64_t sum = 0;
  engine.read_on_rank_0([&](const OpenUnit& open_unit) {
    for (const Param& param : table.params()) {
      if (param.trained) continue;
      open_unit(param.unit);
      sum += hash_of_param(param);
    }
  });
  std::string text = fmt::format("{:016x}", sum);
  world.broadcast(text, 0);
  return text;
}

}  // namespace facet
