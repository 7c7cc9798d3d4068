// How a run computes its matrix products: by which of cuBLASLt's algorithms (--product_algorithms
// timed), and layers with LoRA apart from it or in one product (--lora_products timed).
//
// They are timed while the first step is rehearsed, on each rank for the shapes it meets; then all
// ranks take the same ones, and so does the run when it continues, on any number of ranks. A shape
// that no rank met takes the choice of the nearest number of rows: nothing is timed later, so that
// a run's bits depend on its checkpoint alone.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "comm/communicator.h"
#include "options/options.h"
#include "train/compute_device.h"
#include "train/train_step.h"

namespace facet {

// Takes the choices of the state, which came from a checkpoint. Where it has none for the GPU of
// some rank, the next step is rehearsed to make them, and the state holds them after that; device
// and state outlive it. Does nothing for products that are not timed. Collective.
void settle_products(const Options& options, Communicator& world, const ComputeDevice& device,
                     RunState& state, TrainStep& step);

// What is said to be timed, but has no place in the choices of a checkpoint: a warning each.
std::vector<std::string> without_choices(const Options& options, const std::string& choices);

// The choices of all ranks as one: of each kind of GPU, product and rows that of the first rank
// which has one.
std::string first_choices(std::span<const std::string> of_ranks);

}  // namespace facet
