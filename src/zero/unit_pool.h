// Buffers for what is whole only for a while: a unit's gathered values, its gradients in backward.
// They are reused: there are as many as were ever held at once, each as large as the largest it
// ever held, so that steps after the first take no memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/arena.h"
#include "nn/param_table.h"

namespace facet {

class UnitPool {
 public:
  // kMeasureOnly: hands out addresses that must not be touched, to find out bytes().
  UnitPool(std::string name, ParamTable::Memory memory, DType dtype = DType::kF32,
           MemoryResource& resource = host_memory());

  // The number of a buffer of at least so many elements, content undefined.
  int acquire(int64_t elements);
  Tensor buffer(int number, int64_t elements) const;  // its first `elements`
  // In the checked build what is given back is filled with NaN.
  void release(int number);

  int64_t bytes() const;  // of all buffers, in use or not

 private:
  struct Buffer {
    std::unique_ptr<Arena> memory;
    Tensor whole;
    bool used = false;
  };
  int smallest_fitting(int64_t elements) const;
  void grow(Buffer& buffer, int64_t elements) const;

  std::string name_;
  ParamTable::Memory memory_;
  DType dtype_;
  MemoryResource* resource_;
  std::vector<Buffer> buffers_;
};

}  // namespace facet
