#include "emulated/device/tensor_map.h"

#include <cstring>

#include "emulated/device/violation.h"

namespace facet::emulated {
namespace {

constexpr uint64_t kMark = 0x6d61705f6f665f78;
constexpr size_t kElement = sizeof(uint16_t);
constexpr uint64_t kMostOfADimension = uint64_t{1} << 32, kStrideLimit = uint64_t{1} << 40;
constexpr uint32_t kMostOfABox = 256;
constexpr size_t kSwizzleSpan = 128;

void check_matrix(const TensorMapContent& map, Site where) {
  if (reinterpret_cast<uintptr_t>(map.data) % 16 != 0)
    violation(where, "the matrix of a tensor map begins at {}, which is no multiple of 16",
              static_cast<const void*>(map.data));
  if (map.rows == 0 || map.cols == 0 || map.rows > kMostOfADimension ||
      map.cols > kMostOfADimension)
    violation(where, "a tensor map of {} x {} elements", map.rows, map.cols);
  if (map.stride_bytes % 16 != 0 || map.stride_bytes >= kStrideLimit)
    violation(where,
              "the rows of a tensor map are {} bytes apart, which is no multiple of 16 "
              "below 2^40",
              map.stride_bytes);
  if (map.stride_bytes < map.cols * kElement)
    violation(where, "the rows of a tensor map are {} bytes apart and have {} elements",
              map.stride_bytes, map.cols);
}

void check_box(const TensorMapContent& map, Site where) {
  if (map.box_rows == 0 || map.box_cols == 0 || map.box_rows > kMostOfABox ||
      map.box_cols > kMostOfABox)
    violation(where, "a box of {} x {} elements, {} are the most of a dimension", map.box_rows,
              map.box_cols, kMostOfABox);
  if (map.row_bytes() % 16 != 0)
    violation(where, "the rows of a box have {} bytes, which is no multiple of 16",
              map.row_bytes());
  if (map.swizzled && map.row_bytes() > kSwizzleSpan)
    violation(where, "the rows of a box with 128-byte swizzle have {} bytes, 128 are the most",
              map.row_bytes());
  // What shorter rows look like in shared memory is not modelled.
  if (map.swizzled && map.row_bytes() < kSwizzleSpan)
    violation(where, "the emulation swizzles rows of 128 bytes only, not of {}", map.row_bytes());
}

}  // namespace

TensorMapContent content_of(const CUtensorMap& map, Site where) {
  TensorMapContent content;
  std::memcpy(&content, map.opaque, sizeof content);
  if (content.mark != kMark) violation(where, "the tensor map was never encoded");
  return content;
}

}  // namespace facet::emulated

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType, uint32_t rank, void* address,
                                const uint64_t* sizes, const uint64_t* strides, const uint32_t* box,
                                const uint32_t* steps, CUtensorMapInterleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                CUtensorMapFloatOOBfill, facet::emulated::Site where) {
  using namespace facet::emulated;
  if (rank != 2 || steps[0] != 1 || steps[1] != 1)
    violation(where,
              "the emulation has tensor maps of two dimensions only, whole rows and columns");
  const TensorMapContent content{
      kMark,  static_cast<const char*>(address),    sizes[1], sizes[0], strides[0], box[1],
      box[0], swizzle == CU_TENSOR_MAP_SWIZZLE_128B};
  static_assert(sizeof content <= sizeof map->opaque);
  check_matrix(content, where);
  check_box(content, where);
  std::memset(map, 0, sizeof *map);
  std::memcpy(map->opaque, &content, sizeof content);
  return CUDA_SUCCESS;
}
