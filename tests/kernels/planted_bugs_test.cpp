// Every planted bug is caught, in each of the three builds by the check that is named here. A build
// that cannot see a bug says so: kNothing.
//
// Each bug runs in several orders of threads and of streams. What catches it is an error, the death
// of the program, a NaN in the output, or an output that differs between orders.
#include <gtest/gtest.h>
#include <regex.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <string>

#include "base/check.h"
#include "emulated/device/observer.h"
#include "tests/device/cuda/emulated_device.h"
#include "tests/kernels/device_buffer.h"
#include "tests/kernels/planted_bugs.h"

namespace facet::kernel_test {
namespace {

enum class By : uint8_t { kNothing, kError, kDeath, kNaN, kOrder };

struct Caught {
  By by;
  const char* message = "";  // an expression that the error's or the dying program's text matches
};

struct PlantedBug {
  const char* name;
  void (*run)(const BugRig&);
  Caught plain, sanitized, race;
};

void PrintTo(By by, std::ostream* out) {
  static const char* const kNames[] = {"nothing", "an error", "death", "NaN", "order"};
  *out << kNames[static_cast<int>(by)];
}
void PrintTo(const PlantedBug& bug, std::ostream* out) { *out << bug.name; }

constexpr Caught nothing() { return {By::kNothing}; }
constexpr Caught nan_output() { return {By::kNaN}; }
constexpr Caught order() { return {By::kOrder}; }
constexpr Caught error(const char* message) { return {By::kError, message}; }
constexpr Caught death(const char* message) { return {By::kDeath, message}; }

#define BUG(name) #name, bugs::name

const char* const kPoison = "AddressSanitizer: use-after-poison";
const char* const kIndex = "runtime error: index 32 out of bounds";
const char* const kOutside = "touches memory outside of every array";
const char* const kRace = "race: ";
const char* const kUnwritten = "reads unwritten memory";

const PlantedBug kBugs[] = {
    {BUG(global_read_past_end), nan_output(), death(kPoison), error(kOutside)},
    {BUG(global_write_past_end), error("wrote outside device memory: after the 256 bytes"),
     death(kPoison), error(kOutside)},
    {BUG(global_write_before), error("wrote outside device memory: before the 256 bytes"),
     death(kPoison), error(kOutside)},
    {BUG(shared_read_past_end), nan_output(), death(kIndex), error(kOutside)},
    {BUG(shared_write_past_end), error("wrote outside shared memory: after the 128 bytes"),
     death(kIndex), error(kOutside)},
    {BUG(dynamic_read_past_end), nan_output(), death(kPoison), error(kOutside)},
    {BUG(dynamic_memory_too_small),
     error("bytes .128, 256. of dynamic shared memory, launched with 252"),
     error("launched with 252"), error("launched with 252")},
    {BUG(dynamic_sizes_disagree), error("array 0 has 64 bytes here and 128 at"),
     error("array 0 has 64 bytes here and 128 at"), error("array 0 has 64 bytes here and 128 at")},
    {BUG(declared_shared_too_large), error("49168 bytes of declared shared memory"),
     error("49168 bytes of declared shared memory"),
     error("49168 bytes of declared shared memory")},
    {BUG(stack_too_deep), death("filled its stack"), death("filled its stack"),
     death("filled its stack")},

    {BUG(no_barrier), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(no_second_barrier), order(), order(), error(kRace)},
    {BUG(no_syncwarp), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(syncwarp_of_the_wrong_half), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(shuffle_taken_for_a_barrier), nothing(), nothing(), error("race: reads what thread")},
    {BUG(counter_without_atomic), nothing(), nothing(), error(kRace)},
    {BUG(blocks_write_one_place), order(), order(), error("race: writes what another block wrote")},
    {BUG(block_reads_another_block), nan_output(), nan_output(), error("what another block wrote")},
    {BUG(sum_in_order_of_arrival), order(), order(), order()},

    {BUG(shared_float_unwritten), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(shared_int_unwritten), nothing(), nothing(), error(kUnwritten)},
    {BUG(global_unwritten), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(output_unwritten), nan_output(), nan_output(), nan_output()},
    {BUG(signed_overflow), nothing(), death("signed integer overflow"), nothing()},

    {BUG(divergent_barrier), error("divergent barrier: thread .0,0,0. waits at the barrier"),
     error("divergent barrier"), error("divergent barrier")},
    {BUG(exit_before_barrier), error("exit before a barrier: thread .5,0,0. has finished"),
     error("exit before a barrier"), error("exit before a barrier")},
    {BUG(barrier_against_shuffle),
     error("deadlock in block .0,0,0.: from thread .0,0,0. on: waits at"), error("deadlock"),
     error("deadlock")},
    {BUG(shuffle_with_missing_lanes), error("deadlock.*a shuffle.*mask 0xffffffff.*has finished"),
     error("deadlock"), error("deadlock")},
    {BUG(shuffle_from_outside_the_mask),
     error("lane 15 shuffles from lane 16, which the mask 0x0000ffff does not name"),
     error("lane 15 shuffles from lane 16"), error("lane 15 shuffles from lane 16")},
    {BUG(lane_outside_its_mask), error("with the mask 0x0000ffff, which does not name it"),
     error("which does not name it"), error("which does not name it")},
    {BUG(mask_beyond_the_block), error("a shuffle with the mask 0xffffffff, the warp has 16 lanes"),
     error("the warp has 16 lanes"), error("the warp has 16 lanes|unwritten memory")},
    {BUG(mma_with_a_missing_lane), error("deadlock.*mma.sync.*has finished"), error("mma.sync"),
     error("mma.sync")},

    {BUG(copy_never_awaited), error("ends without having waited for this cp.async"),
     error("without having waited"), error("without having waited|unwritten memory|race: ")},
    {BUG(copy_awaited_too_little), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(copy_awaited_without_barrier), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(copy_into_what_is_read), order(), order(), error(kRace)},
    {BUG(copy_over_another), error("cp.async to a place of another one"),
     error("cp.async to a place of another one"), error("cp.async to a place of another one")},
    {BUG(copy_from_past_end), error("the source of cp.async: bytes .1024, 1040. of the 1024"),
     error("the source of cp.async"), error("the source of cp.async")},
    {BUG(misaligned_global_pack), error("the source of a 16-byte load is misaligned"),
     error("misaligned"), error("misaligned")},
    {BUG(misaligned_shared_pack), error("the source of a 16-byte load is misaligned"),
     error("misaligned"), error("misaligned")},
    {BUG(misaligned_ldmatrix), error("an address of ldmatrix is misaligned"), error("misaligned"),
     error("misaligned")},

    {BUG(box_never_awaited), error("the block ends without having waited for this box"),
     error("without having waited for this box"), error(kUnwritten)},
    {BUG(box_of_the_wrong_phase), nan_output(), nan_output(), error(kUnwritten)},
    {BUG(phase_that_never_comes),
     error("deadlock.*for a phase of parity 1, which lacks 1 arrivals and 0 bytes"),
     error("deadlock.*for a phase of parity 1, which lacks 1 arrivals and 0 bytes"),
     error("deadlock.*for a phase of parity 1, which lacks 1 arrivals and 0 bytes")},
    {BUG(phase_that_has_passed), error("deadlock.*for a phase of parity 0"),
     error("deadlock.*for a phase of parity 0"), error("deadlock.*for a phase of parity 0")},
    {BUG(fewer_bytes_announced), error("brings 16 bytes more than were announced"),
     error("brings 16 bytes more than were announced"),
     error("brings 16 bytes more than were announced")},
    {BUG(more_bytes_announced), error("deadlock.*which lacks 0 arrivals and 16 bytes"),
     error("deadlock.*which lacks 0 arrivals and 16 bytes"),
     error("deadlock.*which lacks 0 arrivals and 16 bytes")},
    {BUG(no_fence_after_init), error("initialised without fence_barrier_init"),
     error("initialised without fence_barrier_init"),
     error("initialised without fence_barrier_init")},
    {BUG(barrier_never_initialised), error("no mbarrier was initialised at"),
     error("no mbarrier was initialised at"), error("no mbarrier was initialised at")},
    {BUG(barrier_used_before_init), error("no mbarrier was initialised at"),
     error("no mbarrier was initialised at"), error("race: |no mbarrier was initialised at")},
    {BUG(one_arrival_too_many), error("an arrival too many"), error("an arrival too many"),
     error("an arrival too many")},
    {BUG(misaligned_box), error("the destination of a box is misaligned.*no multiple of 1024"),
     error("the destination of a box is misaligned.*no multiple of 1024"),
     error("the destination of a box is misaligned.*no multiple of 1024")},
    {BUG(box_into_what_is_read), nan_output(), nan_output(), error(kRace)},
    {BUG(map_of_misaligned_matrix),
     error("the matrix of a tensor map begins at .* no multiple of 16"),
     error("the matrix of a tensor map begins at .* no multiple of 16"),
     error("the matrix of a tensor map begins at .* no multiple of 16")},
    {BUG(map_of_odd_stride), error("136 bytes apart, which is no multiple of 16"),
     error("136 bytes apart, which is no multiple of 16"),
     error("136 bytes apart, which is no multiple of 16")},
    {BUG(box_over_the_limit), error("a box of 257 x 64 elements, 256 are the most"),
     error("a box of 257 x 64 elements, 256 are the most"),
     error("a box of 257 x 64 elements, 256 are the most")},
    {BUG(box_wider_than_the_swizzle), error("128-byte swizzle have 256 bytes, 128 are the most"),
     error("128-byte swizzle have 256 bytes, 128 are the most"),
     error("128-byte swizzle have 256 bytes, 128 are the most")},
    {BUG(map_past_the_end), error("the matrix of a tensor map: bytes .0, 1152. of the 1024"),
     error("the matrix of a tensor map: bytes .0, 1152. of the 1024"),
     error("the matrix of a tensor map: bytes .0, 1152. of the 1024")},
    {BUG(product_of_unswizzled_box),
     error("reads with 128-byte swizzle what a box brought without"),
     error("reads with 128-byte swizzle what a box brought without"),
     error("reads with 128-byte swizzle what a box brought without")},

    {BUG(product_without_fence), error("a product without wgmma_fence"),
     error("a product without wgmma_fence"), error("a product without wgmma_fence")},
    {BUG(product_never_awaited), error("the block ends without having waited for this product"),
     error("the block ends without having waited for this product"),
     error("the block ends without having waited for this product")},
    {BUG(product_awaited_too_little), nan_output(), nan_output(), nan_output()},
    {BUG(accumulators_written_too_early), error("lane 0 wrote to accumulators of the product"),
     error("lane 0 wrote to accumulators of the product"),
     error("lane 0 wrote to accumulators of the product")},
    {BUG(narrow_accumulators_written_too_early),
     error("lane 0 wrote to accumulators of the product"),
     error("lane 0 wrote to accumulators of the product"),
     error("lane 0 wrote to accumulators of the product")},
    {BUG(wide_accumulators_written_too_early), error("lane 0 wrote to accumulators of the product"),
     error("lane 0 wrote to accumulators of the product"),
     error("lane 0 wrote to accumulators of the product")},
    {BUG(operand_registers_changed), error("lane 0 changed operand A of the product"),
     error("lane 0 changed operand A of the product"),
     error("lane 0 changed operand A of the product")},
    {BUG(stores_without_proxy_fence), nothing(), nothing(),
     error("uses what thread [0-9]+ wrote at .* without fence_async_proxy")},
    {BUG(operand_stored_too_early), order(), order(), error(kRace)},
    {BUG(operand_off_the_swizzle), error("in row 1 of the swizzle"),
     error("in row 1 of the swizzle"), error("in row 1 of the swizzle")},
    {BUG(product_without_one_warp), error("that not all warps of the warpgroup issued"),
     error("that not all warps of the warpgroup issued"),
     error("that not all warps of the warpgroup issued")},
    {BUG(warps_of_different_products), error("the warps of a warpgroup issue different products"),
     error("the warps of a warpgroup issue different products"),
     error("the warps of a warpgroup issue different products")},
    {BUG(turn_not_awaited), nothing(), nothing(), error("race: reads what another block wrote")},
    {BUG(turn_awaited_without_barrier), nothing(), nothing(),
     error("race: reads what another block wrote")},
    {BUG(turn_passed_on_too_early), nothing(), nothing(),
     error("race: reads what another block wrote")},
    {BUG(turn_of_a_later_block), error("for a count of 1, which no block that has started brings"),
     error("which no block that has started brings"),
     error("which no block that has started brings")},
    {BUG(turn_of_the_block_before), error("waits for a count of 0, which is 1 already"),
     error("which is 1 already"), error("which is 1 already")},
    {BUG(misaligned_sum), error("the destination of a 16-byte sum is misaligned"),
     error("a 16-byte sum is misaligned"), error("a 16-byte sum is misaligned")},

    {BUG(arrival_before_cluster_barrier),
     error("block [01] of the cluster may not have initialised this mbarrier"),
     error("block [01] of the cluster may not have initialised this mbarrier"),
     error("block [01] of the cluster may not have initialised this mbarrier")},
    {BUG(release_to_one_block_only), nan_output(), nan_output(),
     error("reads unwritten memory|race: writes what another block read")},
    {BUG(release_to_another_block_too_early), nothing(), nothing(),
     error("race: writes what another block read")},
    {BUG(half_of_a_cluster_announced), error("without having waited for this box"),
     error("without having waited for this box"), error(kUnwritten)},
    {BUG(exit_before_last_arrival),
     error("block [01] of the cluster may have ended before an arrival at it"),
     error("block [01] of the cluster may have ended before an arrival at it"),
     error("block [01] of the cluster may have ended before an arrival at it")},
    {BUG(box_to_ended_block), error("block 1 of the cluster may have ended before a box in it"),
     error("block 1 of the cluster may have ended before a box in it"),
     error("block 1 of the cluster may have ended before a box in it")},
    {BUG(box_outside_the_cluster), error("a box for the blocks 0x7 of a cluster of 2"),
     error("a box for the blocks 0x7 of a cluster of 2"),
     error("a box for the blocks 0x7 of a cluster of 2")},
    {BUG(arrival_outside_the_cluster), error("an arrival in block 2 of a cluster of 2"),
     error("an arrival in block 2 of a cluster of 2"),
     error("an arrival in block 2 of a cluster of 2")},
    {BUG(exit_before_cluster_barrier),
     error("exit before a barrier: thread .64,0,0. has finished.*of its cluster"),
     error("exit before a barrier: thread .64,0,0. has finished.*of its cluster"),
     error("exit before a barrier: thread .64,0,0. has finished.*of its cluster")},
    {BUG(arrival_taken_for_a_fence), nothing(), nothing(),
     error("race: reads what another block wrote")},
    {BUG(order_of_blocks_in_a_cluster), order(), order(), order()},
    {BUG(cluster_that_is_not_whole),
     error("a grid of 3 blocks, which is no multiple of a cluster.s 2"),
     error("a grid of 3 blocks, which is no multiple of a cluster.s 2"),
     error("a grid of 3 blocks, which is no multiple of a cluster.s 2")},
    {BUG(cluster_too_large), error("a cluster of 9 blocks, 8 are the most"),
     error("a cluster of 9 blocks, 8 are the most"),
     error("a cluster of 9 blocks, 8 are the most")},
    {BUG(turn_in_a_cluster), error("counters in a kernel with clusters are not modelled"),
     error("counters in a kernel with clusters are not modelled"),
     error("counters in a kernel with clusters are not modelled")},

    {BUG(too_many_registers), error("claim 65536 registers, it was launched with 64512"),
     error("claim 65536 registers, it was launched with 64512"),
     error("claim 65536 registers, it was launched with 64512")},
    {BUG(odd_registers), error("100 registers: 24 to 256 in steps of 8"),
     error("100 registers: 24 to 256 in steps of 8"),
     error("100 registers: 24 to 256 in steps of 8")},

    {BUG(block_too_large), error("a block of 1025 x 1 x 1 threads"), error("a block of 1025"),
     error("a block of 1025")},
    {BUG(empty_grid), error("a grid of 0 x 1 x 1 blocks"), error("a grid of 0"),
     error("a grid of 0")},
    {BUG(host_pointer), error("argument 2 is 0x[0-9a-f]*, which is no device memory"),
     error("no device memory"), error("no device memory")},
    {BUG(host_reads_device_memory), death("the host must copy device memory, not touch it"),
     death("the host must copy device memory"), death("the host must copy device memory")},
    {BUG(default_stream), error("the default stream is not used here"), error("default stream"),
     error("default stream")},
    {BUG(no_event), nan_output(), nan_output(),
     error("race: reads what another operation of a stream wrote")},
    {BUG(event_recorded_too_early), nan_output(), nan_output(),
     error("race: reads what another operation of a stream wrote")},
    {BUG(event_never_recorded), error("waits for an event that was never recorded"),
     error("never recorded"), error("never recorded")},
    {BUG(overwritten_while_read), nan_output(), nan_output(),
     error("race: writes what another operation of a stream read")},
    {BUG(used_after_async_free), error("argument 2 is device memory that was freed at"),
     error("freed at"), error("freed at|race: ")},
    {BUG(used_before_async_malloc), death("which no stream has allocated yet"),
     death("which no stream has allocated yet"), death("which no stream has allocated yet")},
    {BUG(freed_twice), error("freed twice, first at"), error("freed twice"), error("freed twice")},
    {BUG(copied_behind_the_end), error("the destination: bytes .0, 132. of the 128 allocated"),
     error("the destination: bytes .0, 132. of the 128"),
     error("the destination: bytes .0, 132. of the 128")},
    {BUG(stale_workspace), nan_output(), nan_output(), error(kUnwritten)},
};

#undef BUG

Caught expected_here(const PlantedBug& bug) {
#if defined(__SANITIZE_ADDRESS__)
  return bug.sanitized;
#else
  return emulated::observer() ? bug.race : bug.plain;
#endif
}

constexpr int64_t kOutputs = 32;

// y (32) after one run of the bug.
std::vector<float> run_once(const PlantedBug& bug) {
  const TestStream stream, other;
  std::vector<float> values(256);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const DeviceBuffer<float> x(values, stream), y(64);
  bug.run({y.data(), x.data(), stream, other});
  std::vector<float> result = y.download(stream);
  cudaDeviceSynchronize();
  result.resize(kOutputs);
  return result;
}

// The outputs in all orders, one after the other.
std::vector<std::vector<float>> run_in_all_orders(const PlantedBug& bug) {
  using emulated::Lateness;
  constexpr int kRandomOrders = 3;
  std::vector<std::vector<float>> outputs;
  for_thread_orders(kRandomOrders, [&] { outputs.push_back(run_once(bug)); });
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1});
  outputs.push_back(run_once(bug));
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    emulated::set_stream_policy({Lateness::kRandom, seed});
    outputs.push_back(run_once(bug));
  }
  return outputs;
}

// By::kNothing when the run showed nothing.
Caught what_catches(const PlantedBug& bug, std::string* text) {
  try {
    const auto outputs = run_in_all_orders(bug);
    for (const auto& y : outputs)
      for (const float value : y)
        if (std::isnan(value)) return nan_output();
    for (const auto& y : outputs)
      if (std::memcmp(y.data(), outputs[0].data(), kOutputs * sizeof(float)) != 0) return order();
    return nothing();
  } catch (const Error& e) {
    *text = e.what();
    return error("");
  }
}

bool matches(const std::string& text, const char* expression) {
  regex_t compiled;
  if (regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB) != 0) return false;
  const bool found = regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&compiled);
  return found;
}

class Planted : public testing::TestWithParam<PlantedBug> {
 protected:
  void TearDown() override {
    device_test::reset_device();
    emulated::set_stream_policy({});
    emulated::set_execution_order({});
  }
};

TEST_P(Planted, IsCaught) {
  const PlantedBug& bug = GetParam();
  const Caught expected = expected_here(bug);
  if (expected.by == By::kDeath) {
    EXPECT_DEATH(run_in_all_orders(bug), expected.message);
    return;
  }
  std::string text;
  EXPECT_EQ(what_catches(bug, &text).by, expected.by) << text;
  if (expected.by == By::kError) {
    EXPECT_TRUE(matches(text, expected.message)) << text;
    // The line of the kernel or of the call is named.
    EXPECT_TRUE(matches(text, "planted_(stream_)?bugs(_hopper)?.cu:[0-9]+")) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Bugs, Planted, testing::ValuesIn(kBugs),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(LateBlock, GoesOnWhenNothingElseCan) {
  const PlantedBug bug{"", bugs::order_of_blocks_in_a_cluster, {}, {}, {}};
  for (const bool first_is_late : {false, true}) {
    device_test::delay_block(first_is_late ? 0 : 1);
    EXPECT_EQ(run_once(bug), std::vector<float>(kOutputs, first_is_late ? 1.0f : 0.0f));
  }
  device_test::set_thread_order(0);
}

// In this order of threads, the warp that no one waits for is the last of three that read.
TEST(ThirdReader, IsRememberedByTheRaceCheck) {
  const PlantedBug bug{"", bugs::third_reader, {}, {}, {}};
  device_test::set_thread_order(0);
  std::string text;
  try {
    EXPECT_EQ(run_once(bug), std::vector<float>(kOutputs, 1.0f));
  } catch (const Error& error) {
    text = error.what();
  }
  device_test::reset_device();
  const bool is_watched = emulated::observer() != nullptr;
  EXPECT_TRUE(matches(text, is_watched ? "race: writes what thread 64 read" : "^$")) << text;
}

TEST(PlantedBugs, NoneIsMissedByAllBuilds) {
  for (const PlantedBug& bug : kBugs)
    EXPECT_TRUE(bug.plain.by != By::kNothing || bug.sanitized.by != By::kNothing ||
                bug.race.by != By::kNothing)
        << bug.name;
}

}  // namespace
}  // namespace facet::kernel_test
