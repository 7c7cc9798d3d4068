#include "emulated/kernels/warpgroup.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "base/half.h"
#include "emulated/device/stream.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/access.h"
#include "emulated/kernels/bulk_copy.h"
#include "emulated/kernels/executor.h"
#include "emulated/kernels/shared_memory.h"

namespace facet::emulated {
namespace {

int64_t products = 0;

double initial_time() {
  const char* const text = std::getenv("FACET_EMULATED_WGMMA_MS");
  return text != nullptr ? std::stod(text) : 0;
}
double time_of_product = initial_time();  // ms

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr unsigned kWarps = 4;               // of a warpgroup
constexpr unsigned kRows = 16, kDepth = 16;  // of a warp's product
constexpr size_t kElement = sizeof(uint16_t);
constexpr size_t kRowBytes = 128;  // of a tile
constexpr unsigned kRowElements = kRowBytes / kElement;
constexpr uint32_t kNotThereYet = 0x7fd1d1d1;  // NaN: an accumulator of a running product

Executor& executor() { return Executor::instance(); }

// ---- operands in shared memory

struct Operand {
  size_t begin, leading, stride;  // begin: offset in shared memory
};

constexpr uint64_t kSwizzle128 = 1;

Operand operand_of(uint64_t descriptor, const char* what, Site where) {
  const auto field = [&](unsigned bit) { return (descriptor >> bit & 0x3fff) << 4; };
  if (descriptor >> 62 != kSwizzle128)
    violation(where, "the descriptor of {} has no 128-byte swizzle, the only one of the emulation",
              what);
  const Operand operand{field(0), field(16), field(32)};
  if (operand.begin % kSwizzlePeriod / kRowBytes != 0)
    violation(where,
              "operand {} begins at byte {} of shared memory, in row {} of the swizzle's "
              "eight",
              what, operand.begin, operand.begin % kSwizzlePeriod / kRowBytes);
  if (operand.stride == 0 || operand.stride % kSwizzlePeriod != 0)
    violation(where, "the eights of rows of operand {} are {} bytes apart", what, operand.stride);
  return operand;
}

const char* shared_byte(size_t offset) { return shared_range().begin + offset; }

uint16_t load(size_t offset) {
  uint16_t word;
  std::memcpy(&word, swizzled(shared_byte(offset)), sizeof word);
  return word;
}

size_t row_begin(const Operand& x, unsigned row) {
  return x.begin + row / 8 * x.stride + row % 8 * kRowBytes;
}
// Element k of line m of an operand whose lines are rows of its tile (K-major).
size_t place_in_line(const Operand& x, unsigned m, unsigned k) {
  return row_begin(x, m) + k * kElement;
}
// Element n of row k of an operand whose rows are rows of its tiles (N-major).
size_t place_in_row(const Operand& x, unsigned k, unsigned n) {
  return row_begin(x, k) + n / kRowElements * x.leading + n % kRowElements * kElement;
}

// Calls body(first byte, bytes) for what lines [first, last) of 16 elements occupy: whole chunks.
template <typename Body>
void for_lines(const Operand& x, unsigned first, unsigned last, const Body& body) {
  for (unsigned m = first; m < last; ++m)
    for (unsigned k = 0; k < kDepth; k += 8)
      body(swizzled(shared_byte(place_in_line(x, m, k))), 8 * kElement);
}
// The same for all 16 rows of n elements of an N-major operand, or an M-major A of n rows.
template <typename Body>
void for_rows(const Operand& x, unsigned n, const Body& body) {
  constexpr unsigned kChunk = 8;
  for (unsigned k = 0; k < kDepth; ++k) {
    unsigned at = 0;
    for (; at + kRowElements <= n; at += kRowElements)
      body(shared_byte(place_in_row(x, k, at)), kRowBytes);
    for (; at < n; at += kChunk)
      body(swizzled(shared_byte(place_in_row(x, k, at))), kChunk * kElement);
  }
}

// ---- what the warps of a cluster have issued

struct Product {
  WgmmaShape shape;
  bool a_in_registers = false;
  uint64_t a = 0, b = 0;
  Site where;
  std::array<float*, kLanes> d{};
  std::array<const uint32_t*, kLanes> a_registers{};
  std::array<std::array<uint32_t, 4>, kLanes> a_values{};
  std::vector<float> start;  // (lanes, n/2) accumulators; empty if they are another product's

  size_t per_lane() const { return shape.n / 2; }
  bool is_same_as(const Product& other) const {
    return same_site(where, other.where) && a == other.a && b == other.b &&
           shape.adds == other.shape.adds;
  }
};

struct WarpQueue {
  std::deque<Product> open;                // not committed
  std::deque<std::deque<Product>> groups;  // committed
  bool fenced = false;                     // since the last commit
  size_t issued = 0;
  std::vector<Product> read_late;  // computed by the wait, whose reads are not reported yet

  template <typename Body>
  void for_running(const Body& body) {
    for (auto& group : groups)
      for (Product& p : group) body(p);
    for (Product& p : open) body(p);
  }
};

struct Warpgroup {
  std::array<WarpQueue, kWarps> warps;
  std::vector<Product> issued;  // by the warp that is ahead: only what the others must repeat
  int registers = 0;            // 0: as launched
};

std::deque<Warpgroup>& warpgroups() {
  static auto* const of_cluster = new std::deque<Warpgroup>;
  return *of_cluster;
}

Warpgroup& warpgroup_of_thread() {
  const size_t i = executor().current().warp / kWarps;
  while (warpgroups().size() <= i) warpgroups().emplace_back();
  return warpgroups()[i];
}
WarpQueue& queue_of_thread() {
  return warpgroup_of_thread().warps[executor().current().warp % kWarps];
}

// ---- issue

Product* running_product_of(WarpQueue& queue, const float* d) {
  Product* last = nullptr;
  queue.for_running([&](Product& p) {
    if (p.d[0] == d) last = &p;
  });
  return last;
}

bool not_there_yet(const float* d, size_t count) {
  return std::all_of(d, d + count,
                     [](const float& x) { return std::memcmp(&x, &kNotThereYet, sizeof x) == 0; });
}
void take_away(float* d, size_t count) {
  for (size_t i = 0; i < count; ++i) std::memcpy(d + i, &kNotThereYet, sizeof *d);
}

void check_untouched(const Product& p, Site where) {
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!not_there_yet(p.d[lane], p.per_lane()))
      violation(where, "lane {} wrote to accumulators of the product {} before it waited", lane,
                text_of(p.where));
    if (p.a_in_registers && std::memcmp(p.a_registers[lane], p.a_values[lane].data(), 16) != 0)
      violation(where, "lane {} changed operand A of the product {} before it waited", lane,
                text_of(p.where));
  }
}

// All warps of a warpgroup issue the same products.
void check_like_others(Warpgroup& group, WarpQueue& queue, const Product& p) {
  if (queue.issued == group.issued.size()) {
    Product shown{};
    shown.shape = p.shape;
    shown.a = p.a;
    shown.b = p.b;
    shown.where = p.where;
    group.issued.push_back(std::move(shown));
  } else if (!p.is_same_as(group.issued[queue.issued])) {
    violation(p.where, "the warps of a warpgroup issue different products, here and {}",
              text_of(group.issued[queue.issued].where));
  }
  ++queue.issued;
}

// Calls body(first byte, bytes) for what a warp reads of A in shared memory.
template <typename Body>
void for_a(const Product& p, unsigned warp, const Body& body) {
  if (p.a_in_registers) return;
  const Operand a = operand_of(p.a, "A", p.where);
  if (p.shape.a_is_columns)
    for_rows(a, kWarps * kRows, body);
  else
    for_lines(a, warp * kRows, (warp + 1) * kRows, body);
}

void check_order_in_memory(const Product& p, unsigned warp) {
  const auto check = [&](const char* begin, size_t bytes) {
    if (written_unswizzled(begin, bytes))
      violation(p.where, "a product reads with 128-byte swizzle what a box brought without");
  };
  for_a(p, warp, check);
  const Operand b = operand_of(p.b, "B", p.where);
  if (p.shape.b_is_rows)
    for_rows(b, p.shape.n, check);
  else
    for_lines(b, 0, p.shape.n, check);
}

void complete_issue(const WarpMeeting& meeting) {
  Product p = meeting.of<Product>(0);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const auto& mine = meeting.of<Product>(lane);
    if (!mine.is_same_as(p))
      violation(meeting.where, "the lanes of a warp issue different products");
    p.d[lane] = mine.d[lane];
    p.a_registers[lane] = mine.a_registers[lane];
    p.a_values[lane] = mine.a_values[lane];
  }
  Warpgroup& group = warpgroup_of_thread();
  WarpQueue& queue = queue_of_thread();
  if (!queue.fenced)
    violation(p.where, "a product without wgmma_fence() since the last group of products");
  check_like_others(group, queue, p);
  check_order_in_memory(p, executor().current().warp % kWarps);
  if (const Product* before = running_product_of(queue, p.d[0])) {
    check_untouched(*before, p.where);
  } else {
    p.start.resize(kLanes * p.per_lane());
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      std::memcpy(&p.start[lane * p.per_lane()], p.d[lane], p.per_lane() * sizeof(float));
      take_away(p.d[lane], p.per_lane());
    }
  }
  queue.open.push_back(std::move(p));
}

// Reports the reads of operands as lane 0's.
void note_reads(const Product& p) {
  if (!observer() || executor().current().lane != 0) return;
  const auto note = [&](const char* begin, size_t bytes) {
    note_access(begin, bytes, Access::kAsyncRead, p.where);
  };
  const unsigned warp = executor().current().warp % kWarps;
  for_a(p, warp, note);
  const Operand b = operand_of(p.b, "B", p.where);
  if (p.shape.b_is_rows)
    for_rows(b, p.shape.n, note);
  else
    for_lines(b, 0, p.shape.n, note);
}

void issue(Product& p) {
  const unsigned warp = executor().current().warp - executor().first_warp();
  if ((warp / kWarps + 1) * kWarps * kLanes > executor().threads())
    violation(p.where, "a product by a warpgroup that is not whole");
  executor().meet_warp("wgmma", kAllLanes, &p, complete_issue, p.where);
  note_reads(p);
}

// ---- computation

float value(uint16_t word, Half type) {
  return type == Half::kBF16 ? float_from_bf16(word) : float_from_f16(word);
}

using RowsOfA = std::array<std::array<float, kDepth>, kRows>;

RowsOfA load_a(const Product& p, unsigned warp) {
  RowsOfA a;
  if (p.a_in_registers) {
    for (unsigned lane = 0; lane < kLanes; ++lane)
      for (unsigned i = 0; i < 8; ++i) {
        const auto word = static_cast<uint16_t>(p.a_values[lane][i / 2] >> (16 * (i % 2)));
        a[lane / 4 + (i & 2 ? 8 : 0)][lane % 4 * 2 + (i & 1) + (i & 4 ? 8 : 0)] =
            value(word, p.shape.type);
      }
    return a;
  }
  const Operand x = operand_of(p.a, "A", p.where);
  for (unsigned row = 0; row < kRows; ++row)
    for (unsigned k = 0; k < kDepth; ++k)
      a[row][k] = value(load(p.shape.a_is_columns ? place_in_row(x, k, warp * kRows + row)
                                                  : place_in_line(x, warp * kRows + row, k)),
                        p.shape.type);
  return a;
}

// (16,n)
std::vector<float> load_b(const Product& p) {
  const Operand x = operand_of(p.b, "B", p.where);
  std::vector<float> b(size_t{kDepth} * p.shape.n);
  for (unsigned k = 0; k < kDepth; ++k)
    for (unsigned n = 0; n < p.shape.n; ++n)
      b[size_t{k} * p.shape.n + n] = value(
          load(p.shape.b_is_rows ? place_in_row(x, k, n) : place_in_line(x, n, k)), p.shape.type);
  return b;
}

void compute(const Product& p, unsigned warp) {
  ++products;
  pass_time(time_of_product);
  const RowsOfA a = load_a(p, warp);
  const std::vector<float> b = load_b(p);
  const size_t n = p.shape.n;
  std::vector<float> sums(kRows * n, 0.0f);
  const auto for_elements = [&](const auto& body) {
    for (unsigned lane = 0; lane < kLanes; ++lane)
      for (unsigned i = 0; i < p.per_lane(); ++i) {
        const unsigned row = lane / 4 + (i & 2 ? 8 : 0), col = i / 4 * 8 + lane % 4 * 2 + (i & 1);
        body(lane, i, sums[row * n + col]);
      }
  };
  if (p.shape.adds)
    for_elements(
        [&](unsigned lane, unsigned i, float& sum) { sum = p.start[lane * p.per_lane() + i]; });
  for (unsigned row = 0; row < kRows; ++row)
    for (unsigned k = 0; k < kDepth; ++k)
      for (size_t col = 0; col < n; ++col) sums[row * n + col] += a[row][k] * b[k * n + col];
  for_elements([&](unsigned lane, unsigned i, float& sum) { p.d[lane][i] = sum; });
}

// The results become those of the next product that adds to them, or the threads'.
void hand_on(WarpQueue& queue, const Product& done) {
  Product* next = nullptr;
  queue.for_running([&](Product& p) {
    if (!next && p.d[0] == done.d[0]) next = &p;
  });
  if (!next) return;
  next->start.resize(kLanes * next->per_lane());
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    std::memcpy(&next->start[lane * next->per_lane()], done.d[lane],
                next->per_lane() * sizeof(float));
    take_away(done.d[lane], done.per_lane());
  }
}

struct WaitArguments {
  int pending;
};

void complete_wait(const WarpMeeting& meeting) {
  WarpQueue& queue = queue_of_thread();
  const auto pending = static_cast<size_t>(meeting.of<WaitArguments>(0).pending);
  queue.read_late.clear();
  for (; queue.groups.size() > pending; queue.groups.pop_front())
    for (auto& group = queue.groups.front(); !group.empty();) {
      const Product& p = queue.read_late.emplace_back(std::move(group.front()));
      group.pop_front();
      check_untouched(p, meeting.where);
      compute(p, executor().current().warp % kWarps);
      hand_on(queue, p);
    }
}

}  // namespace

uint64_t matrix_descriptor(const void* begin, int leading_bytes, int stride_bytes, Site where) {
  constexpr size_t kReach = 1 << 18;
  const size_t offset = shared_range().offset_of(begin);
  if (offset >= kReach)
    violation(where, "an operand that is not in the first 256 KiB of shared memory");
  require_alignment(begin, 16, "an operand of wgmma", where);
  const auto field = [](size_t bytes) { return bytes >> 4 & 0x3fff; };
  return field(offset) | field(static_cast<size_t>(leading_bytes)) << 16 |
         field(static_cast<size_t>(stride_bytes)) << 32 | kSwizzle128 << 62;
}

void wgmma(const WgmmaShape& shape, float* d, uint64_t a, uint64_t b, Site where) {
  Product p{};
  p.shape = shape;
  p.a = a;
  p.b = b;
  p.where = where;
  p.d[executor().current().lane] = d;
  issue(p);
}

void wgmma(const WgmmaShape& shape, float* d, const uint32_t (&a)[4], uint64_t b, Site where) {
  Product p{};
  p.shape = shape;
  p.a_in_registers = true;
  p.b = b;
  p.where = where;
  const unsigned lane = executor().current().lane;
  p.d[lane] = d;
  p.a_registers[lane] = a;
  std::copy(a, a + 4, p.a_values[lane].begin());
  issue(p);
}

void wgmma_fence(Site where) {
  int nothing = 0;
  executor().meet_warp(
      "wgmma.fence", kAllLanes, &nothing,
      [](const WarpMeeting&) { queue_of_thread().fenced = true; }, where);
}

void wgmma_commit(Site where) {
  int nothing = 0;
  executor().meet_warp(
      "wgmma.commit_group", kAllLanes, &nothing,
      [](const WarpMeeting&) {
        WarpQueue& queue = queue_of_thread();
        queue.groups.push_back(std::move(queue.open));
        queue.open.clear();
        queue.fenced = false;
      },
      where);
}

void wgmma_wait(int pending, Site where) {
  WaitArguments arguments{pending};
  executor().meet_warp("wgmma.wait_group", kAllLanes, &arguments, complete_wait, where);
  if (executor().current().lane == 0)
    for (const Product& p : queue_of_thread().read_late) note_reads(p);
}

int64_t wgmma_products() { return products; }
void set_wgmma_time(double milliseconds) { time_of_product = milliseconds; }

// ---- registers

void set_registers(int registers, Registers change, Site where) {
  constexpr int kOfMultiprocessor = 65536, kWarpgroupThreads = kWarps * kLanes;
  if (registers < 24 || registers > 256 || registers % 8 != 0)
    violation(where, "{} registers: 24 to 256 in steps of 8", registers);
  const auto threads = static_cast<int>(executor().threads());
  const int launched = std::min(255, kOfMultiprocessor / threads) / 8 * 8;
  Warpgroup& group = warpgroup_of_thread();
  const int now = group.registers == 0 ? launched : group.registers;
  const bool again = group.registers == registers;  // another thread of the warpgroup
  if (!again && (change == Registers::kRaise ? registers < now : registers > now))
    violation(where, "{} registers, where a thread has {}", registers, now);
  group.registers = registers;
  int sum = 0;
  const size_t first = executor().first_warp() / kWarps;
  const size_t last =
      std::min(warpgroups().size(), first + executor().threads() / kWarpgroupThreads);
  for (size_t i = first; i < last; ++i) sum += warpgroups()[i].registers * kWarpgroupThreads;
  if (sum > launched * threads)
    violation(where, "the threads of the block claim {} registers, it was launched with {}", sum,
              launched * threads);
}

// ---- for the executor

void forget_warpgroups() { warpgroups().clear(); }

void check_warpgroups_agree() {
  for (Warpgroup& group : warpgroups())
    for (WarpQueue& queue : group.warps) {
      queue.for_running([](const Product& p) {
        violation(p.where, "the block ends without having waited for this product");
      });
      if (queue.issued != group.issued.size())
        violation(group.issued[queue.issued].where,
                  "a product that not all warps of the warpgroup issued");
    }
}

}  // namespace facet::emulated
