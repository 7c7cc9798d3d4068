// Kernels around Hopper's warpgroup products and copies of boxes, used as they are meant.
#pragma once

#include <vector>

#include "tests/kernels/tile_kernels.h"

namespace facet::kernel_test {

// The N that products of a warpgroup may have here: on the emulation of every kind, for nvcc those
// that kernels use.
std::vector<int> wgmma_columns();
// d (64,N) = a (64,64) b (N,64)', both stored to shared memory by the threads.
void wgmma_of_stored_tiles(float* d, const uint16_t* a, const uint16_t* b, int n, HalfType type,
                           cudaStream_t stream);
// d (64,N) = a' b, with a (64,64) and b (64,N) stored as they are.
void wgmma_of_stored_rows(float* d, const uint16_t* a, const uint16_t* b, int n, HalfType type,
                          cudaStream_t stream);
// d (64,128) = start (64,128) + a (64,64) b (64,128); a in registers, b by two boxes.
void wgmma_of_boxes(float* d, const uint16_t* a, const uint16_t* b, const float* start,
                    HalfType type, cudaStream_t stream);
// y = x (rows, 64), 32 rows at a time through a ring of two boxes: one warp fetches, a warpgroup
// writes. Rows of the last box past the end are zeros; y has whole boxes.
void copy_boxes_through_ring(uint16_t* y, const uint16_t* x, int64_t rows, cudaStream_t stream);
// y (4,R,64) = x (rows,64) four times, and R - rows rows of zeros up to whole sixteens, by a
// cluster of two blocks: each fetches half of every 16 rows for both and writes a copy, and then a
// copy of the other's.
void copy_boxes_by_cluster(uint16_t* y, const uint16_t* x, int64_t rows, cudaStream_t stream);

}  // namespace facet::kernel_test
