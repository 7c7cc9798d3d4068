// ldmatrix and mma.sync as the PTX manual describes them: the same elements in the same lanes; sums
// are plain fp32.
#pragma once

#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {

enum class Half : uint8_t { kBF16, kF16 };

// D (16,8) = A (16,16) B (16,8) + C, by all 32 lanes.
void mma_m16n8k16(Half type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  const float (&c)[4], Site where);
// How many products the process has computed.
int64_t mma_products();

enum class Transposed : uint8_t { kNo, kYes };

// `count` 8 x 8 matrices of 16-bit elements from shared memory: row i of matrix j is at the address
// that lane 8 j + i gives. Lane l gets elements 2 (l % 4) and the next of row l / 4 of each matrix,
// or of its transpose.
void load_matrices(uint32_t* registers, int count, Transposed transposed, const void* row,
                   Site where);

}  // namespace facet::emulated
