// wgmma: asynchronous products of a warpgroup, 128 threads. They may run at any time until the
// thread has waited for their group: here the accumulators become NaN at once, and each warp
// computes its 16 rows at its wait, from what the operands then hold. Sums are plain fp32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"
#include "emulated/kernels/tensor_core.h"

namespace facet::emulated {

// A descriptor of an operand in shared memory, with the 128-byte swizzle: its first byte, the
// distance between blocks of 64 elements along its rows, and between groups of eight rows.
uint64_t matrix_descriptor(const void* begin, int leading_bytes, int stride_bytes, Site where);

struct WgmmaShape {
  Half type;
  unsigned n;                 // columns of B and D
  bool b_is_rows;             // rows of B's tile are rows of B (N-major), not its columns (K-major)
  bool adds;                  // to the accumulators
  bool a_is_columns = false;  // rows of A's tile are columns of A (M-major), not its rows
};

// D (64,n) = A (64,16) B (16,n), plus D. Thread l of a warp holds elements 2 (l % 4) and the next
// of every eight columns, of rows l / 4 and l / 4 + 8 of the warp's 16: d holds n / 2 floats, a
// four registers as mma.sync has them.
void wgmma(const WgmmaShape& shape, float* d, uint64_t a, uint64_t b, Site where);
void wgmma(const WgmmaShape& shape, float* d, const uint32_t (&a)[4], uint64_t b, Site where);

void wgmma_fence(Site where = Site::current());
void wgmma_commit(Site where);
// At most the `pending` latest groups may still be running afterwards.
void wgmma_wait(int pending, Site where = Site::current());
// How many products of warpgroups the process has computed, each counted by its four warps.
int64_t wgmma_products();
// What each takes on the device's clock; at first what the variable FACET_EMULATED_WGMMA_MS says,
// or 0.
void set_wgmma_time(double milliseconds);

enum class Registers : uint8_t { kRaise, kLower };
void set_registers(int registers, Registers change, Site where);

// ---- for the executor
void forget_warpgroups();
// At the end of a block: its warps waited for all products, and those of a warpgroup took the same.
void check_warpgroups_agree();

}  // namespace facet::emulated
