// Reusable buffers for the temporary full copy of a unit: its gathered values, its gradients in
// backward. The pool grows to as many buffers as were ever in use at once, each as large as the
// largest unit it ever held, so that steps after the first allocate nothing.
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
  // kMeasureOnly: hands out addresses that must not be touched, to measure bytes().
  UnitPool(std::string name, ParamTable::Memory memory, DType dtype = DType::kF32,
           MemoryResource& resource = host_memory());

  // Returns the number of a free buffer of at least that many elements; its content is undefined.
  int acquire(int64_t elements);
  Tensor buffer(int number, int64_t elements) const;  // its first `elements` elements
  // In the checked build a released buffer is filled with NaNs.
  void release(int number);

  int64_t bytes() const;  // of all buffers, used or free

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
