#include "emulated/kernels/tensor_core.h"

#include <cstring>

#include "base/half.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/access.h"
#include "emulated/kernels/executor.h"
#include "emulated/kernels/shared_memory.h"

namespace facet::emulated {
namespace {

int64_t products = 0;

constexpr unsigned kAllLanes = 0xffffffffu;

struct MmaArguments {
  Half type;
  float* d;
  const uint32_t *a, *b;
  const float* c;
};

// The place in the matrix of a lane's i-th element of an operand.
struct Place {
  unsigned row, col;
};
Place place_in_a(unsigned lane, unsigned i) {
  return {lane / 4 + (i & 2 ? 8 : 0), lane % 4 * 2 + (i & 1) + (i & 4 ? 8 : 0)};
}
Place place_in_b(unsigned lane, unsigned i) {
  return {lane % 4 * 2 + (i & 1) + (i & 2 ? 8 : 0), lane / 4};
}
Place place_in_c(unsigned lane, unsigned i) {
  return {lane / 4 + (i & 2 ? 8 : 0), lane % 4 * 2 + (i & 1)};
}

// Element i of registers that hold two elements each.
float element(const uint32_t* registers, unsigned i, Half type) {
  const auto word = static_cast<uint16_t>(registers[i / 2] >> (16 * (i % 2)));
  return type == Half::kBF16 ? float_from_bf16(word) : float_from_f16(word);
}

void complete_mma(const WarpMeeting& meeting) {
  ++products;
  float a[16][16], b[16][8], c[16][8];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const auto& arguments = meeting.of<MmaArguments>(lane);
    for (unsigned i = 0; i < 8; ++i) {
      const Place p = place_in_a(lane, i);
      a[p.row][p.col] = element(arguments.a, i, arguments.type);
    }
    for (unsigned i = 0; i < 4; ++i) {
      const Place p = place_in_b(lane, i);
      b[p.row][p.col] = element(arguments.b, i, arguments.type);
      const Place q = place_in_c(lane, i);
      c[q.row][q.col] = arguments.c[i];
    }
  }
  for (unsigned row = 0; row < 16; ++row)
    for (unsigned k = 0; k < 16; ++k)
      for (unsigned col = 0; col < 8; ++col) c[row][col] += a[row][k] * b[k][col];
  for (unsigned lane = 0; lane < kLanes; ++lane)
    for (unsigned i = 0; i < 4; ++i) {
      const Place p = place_in_c(lane, i);
      meeting.of<MmaArguments>(lane).d[i] = c[p.row][p.col];
    }
}

struct LoadArguments {
  uint32_t* registers;
  const void* row;
  int count;
  Transposed transposed;
};

constexpr size_t kRowBytes = 16;

// Each lane reads the row whose address it gives before the warp operation, so that the read counts
// as its own.
void read_row(uint16_t (&row)[8], const void* from, Site where) {
  require_alignment(from, kRowBytes, "an address of ldmatrix", where);
  if (!shared_range().contains(from))
    violation(where, "an address of ldmatrix is not in shared memory");
  note_access(from, kRowBytes, Access::kRead, where);
  std::memcpy(row, from, kRowBytes);
}

void complete_load(const WarpMeeting& meeting) {
  const auto& first = meeting.of<LoadArguments>(0);
  for (int j = 0; j < first.count; ++j) {
    const unsigned base = static_cast<unsigned>(j) * 8;
    const auto at = [&](unsigned row, unsigned col) {
      return uint32_t{static_cast<const uint16_t*>(meeting.of<LoadArguments>(base + row).row)[col]};
    };
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned row = lane / 4, col = lane % 4 * 2;
      const bool turned = first.transposed == Transposed::kYes;
      const uint32_t low = turned ? at(col, row) : at(row, col);
      const uint32_t high = turned ? at(col + 1, row) : at(row, col + 1);
      meeting.of<LoadArguments>(lane).registers[j] = low | high << 16;
    }
  }
}

}  // namespace

void mma_m16n8k16(Half type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  const float (&c)[4], Site where) {
  MmaArguments arguments{type, d, a, b, c};
  Executor::instance().meet_warp("mma.sync", kAllLanes, &arguments, complete_mma, where);
}

int64_t mma_products() { return products; }

void load_matrices(uint32_t* registers, int count, Transposed transposed, const void* row,
                   Site where) {
  uint16_t mine[8] = {};
  const bool gives_a_row = Executor::instance().current().lane < static_cast<unsigned>(8 * count);
  if (gives_a_row) read_row(mine, row, where);
  LoadArguments arguments{registers, mine, count, transposed};
  Executor::instance().meet_warp("ldmatrix", kAllLanes, &arguments, complete_load, where);
}

}  // namespace facet::emulated
