// Kernels with one mistake each, for the tests that show which check catches it. All write the
// first 32 elements of y unless the mistake is that they don't.
#pragma once

#include "device/cuda_runtime.h"

namespace facet::kernel_test {

struct BugRig {
  float* y;        // (64), NaN at first
  const float* x;  // (256), x[i] = i
  cudaStream_t stream, other;
};

namespace bugs {

// Bounds.
void global_read_past_end(const BugRig& rig);
void global_write_past_end(const BugRig& rig);
void global_write_before(const BugRig& rig);
void shared_read_past_end(const BugRig& rig);
void shared_write_past_end(const BugRig& rig);
void dynamic_read_past_end(const BugRig& rig);
void dynamic_memory_too_small(const BugRig& rig);
void dynamic_sizes_disagree(const BugRig& rig);
void declared_shared_too_large(const BugRig& rig);
void stack_too_deep(const BugRig& rig);

// Order.
void no_barrier(const BugRig& rig);
void no_second_barrier(const BugRig& rig);
void no_syncwarp(const BugRig& rig);
void syncwarp_of_the_wrong_half(const BugRig& rig);
void shuffle_taken_for_a_barrier(const BugRig& rig);
void counter_without_atomic(const BugRig& rig);
void blocks_write_one_place(const BugRig& rig);
void block_reads_another_block(const BugRig& rig);
void sum_in_order_of_arrival(const BugRig& rig);

// Content.
void shared_float_unwritten(const BugRig& rig);
void shared_int_unwritten(const BugRig& rig);
void global_unwritten(const BugRig& rig);
void output_unwritten(const BugRig& rig);
void signed_overflow(const BugRig& rig);

// Barriers and warps.
void divergent_barrier(const BugRig& rig);
void exit_before_barrier(const BugRig& rig);
void barrier_against_shuffle(const BugRig& rig);
void shuffle_with_missing_lanes(const BugRig& rig);
void shuffle_from_outside_the_mask(const BugRig& rig);
void lane_outside_its_mask(const BugRig& rig);
void mask_beyond_the_block(const BugRig& rig);
void mma_with_a_missing_lane(const BugRig& rig);

// Copies and accesses of 16 bytes.
void copy_never_awaited(const BugRig& rig);
void copy_awaited_too_little(const BugRig& rig);
void copy_awaited_without_barrier(const BugRig& rig);
void copy_into_what_is_read(const BugRig& rig);
void copy_over_another(const BugRig& rig);
void copy_from_past_end(const BugRig& rig);
void misaligned_global_pack(const BugRig& rig);
void misaligned_shared_pack(const BugRig& rig);
void misaligned_ldmatrix(const BugRig& rig);

// Hopper: copies of boxes and their barriers, products of a warpgroup, registers.
void box_never_awaited(const BugRig& rig);
void box_of_the_wrong_phase(const BugRig& rig);
void phase_that_never_comes(const BugRig& rig);
void phase_that_has_passed(const BugRig& rig);
void fewer_bytes_announced(const BugRig& rig);
void more_bytes_announced(const BugRig& rig);
void no_fence_after_init(const BugRig& rig);
void barrier_never_initialised(const BugRig& rig);
void barrier_used_before_init(const BugRig& rig);
void one_arrival_too_many(const BugRig& rig);
void misaligned_box(const BugRig& rig);
void box_into_what_is_read(const BugRig& rig);
void map_of_misaligned_matrix(const BugRig& rig);
void map_of_odd_stride(const BugRig& rig);
void box_over_the_limit(const BugRig& rig);
void box_wider_than_the_swizzle(const BugRig& rig);
void map_past_the_end(const BugRig& rig);
void copy_box(const BugRig& rig);
void multiply(const BugRig& rig);
void product_of_unswizzled_box(const BugRig& rig);
void product_without_fence(const BugRig& rig);
void product_never_awaited(const BugRig& rig);
void product_awaited_too_little(const BugRig& rig);
void accumulators_written_too_early(const BugRig& rig);
void narrow_accumulators_written_too_early(const BugRig& rig);
void wide_accumulators_written_too_early(const BugRig& rig);
void operand_registers_changed(const BugRig& rig);
void stores_without_proxy_fence(const BugRig& rig);
void operand_stored_too_early(const BugRig& rig);
void operand_off_the_swizzle(const BugRig& rig);
void product_without_one_warp(const BugRig& rig);
void warps_of_different_products(const BugRig& rig);
void turn_not_awaited(const BugRig& rig);
void turn_awaited_without_barrier(const BugRig& rig);
void turn_passed_on_too_early(const BugRig& rig);
void turn_of_a_later_block(const BugRig& rig);
void turn_of_the_block_before(const BugRig& rig);
void misaligned_sum(const BugRig& rig);
void arrival_before_cluster_barrier(const BugRig& rig);
void release_to_one_block_only(const BugRig& rig);
void release_to_another_block_too_early(const BugRig& rig);
void half_of_a_cluster_announced(const BugRig& rig);
void exit_before_last_arrival(const BugRig& rig);
void box_to_ended_block(const BugRig& rig);
void box_outside_the_cluster(const BugRig& rig);
void arrival_outside_the_cluster(const BugRig& rig);
void exit_before_cluster_barrier(const BugRig& rig);
void arrival_taken_for_a_fence(const BugRig& rig);
void cluster_that_is_not_whole(const BugRig& rig);
void order_of_blocks_in_a_cluster(const BugRig& rig);
void cluster_too_large(const BugRig& rig);
void turn_in_a_cluster(const BugRig& rig);
void third_reader(const BugRig& rig);
void too_many_registers(const BugRig& rig);
void odd_registers(const BugRig& rig);

// Launches and streams.
void block_too_large(const BugRig& rig);
void empty_grid(const BugRig& rig);
void host_pointer(const BugRig& rig);
void host_reads_device_memory(const BugRig& rig);
void default_stream(const BugRig& rig);
void no_event(const BugRig& rig);
void event_recorded_too_early(const BugRig& rig);
void event_never_recorded(const BugRig& rig);
void overwritten_while_read(const BugRig& rig);
void used_after_async_free(const BugRig& rig);
void used_before_async_malloc(const BugRig& rig);
void freed_twice(const BugRig& rig);
void copied_behind_the_end(const BugRig& rig);
void stale_workspace(const BugRig& rig);

}  // namespace bugs
}  // namespace facet::kernel_test
