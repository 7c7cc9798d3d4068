// The maps of the tensor memory accelerator: cuTensorMapEncodeTiled of CUDA's driver, under its
// names, for two-dimensional maps of 16-bit elements. A broken rule of the driver's throws an
// Error.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"

struct alignas(64) CUtensorMap {
  unsigned char opaque[128];
};

enum CUresult { CUDA_SUCCESS = 0 };
enum CUtensorMapDataType {
  CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9
};
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE = 0, CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };

// Sizes and box are in elements, the innermost dimension first; strides in bytes, without that of
// the innermost dimension.
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, uint32_t rank,
                                void* address, const uint64_t* sizes, const uint64_t* strides,
                                const uint32_t* box, const uint32_t* steps,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill,
                                facet::emulated::Site where = facet::emulated::Site::current());

namespace facet::emulated {

// What a map says of its matrix.
struct TensorMapContent {
  uint64_t mark;  // of an encoded map
  const char* data;
  uint64_t rows, cols, stride_bytes;
  uint32_t box_rows, box_cols;
  bool swizzled;  // by 128 bytes

  size_t row_bytes() const { return box_cols * sizeof(uint16_t); }
  size_t box_bytes() const { return box_rows * row_bytes(); }
};
TensorMapContent content_of(const CUtensorMap& map, Site where);

}  // namespace facet::emulated
