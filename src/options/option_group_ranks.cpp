// The options of group "Ranks and precision" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

void add_rank_fields(std::vector<OptionField>& t) {
  t.push_back(field("zero_stage", &O::zero_stage, Group::kRanks, "t", kMayChange,
                    "what is partitioned over the ranks: 0 nothing, 1 optimizer state, 2 gradients "
                    "too, 3 parameters too, including frozen ones")
                  .in(0, 3)
                  .usually_given());
  t.push_back(field("reduce_every_micro_batch", &O::reduce_every_micro_batch, Group::kRanks, "t",
                    kMayChange,
                    "sum gradients over the ranks after every micro-batch at stages 0 and 1 too, "
                    "as 2 and 3 do: all stages then compute the same bits"));
  t.push_back(field("precision", &O::precision, Group::kRanks, "tegc", kMayChange,
                    "type of parameters and activations; sums, master weights, moments and "
                    "gradients of parameters are fp32 in all three")
                  .one_of({"fp32", "bf16", "fp16"})
                  .usually_given());
  t.push_back(field("gradient_checkpointing", &O::gradient_checkpointing, Group::kRanks, "t",
                    kMayChange,
                    "recompute each block's activations in the backward pass: less memory, more "
                    "time"));
  t.push_back(field("device", &O::device, Group::kRanks, "tegcb", kMayChange,
                    "cpu, or cuda: one GPU per rank, assigned round-robin on each host")
                  .one_of({"cpu", "cuda"})
                  .usually_given());
  t.push_back(field("device_collectives", &O::device_collectives, Group::kRanks, "tegb", kMayChange,
                    "transport between GPUs: nccl, or mpi through host memory; auto: nccl where "
                    "no two ranks share a GPU, none for one rank")
                  .one_of({"auto", "nccl", "mpi"}));
  t.push_back(field("product_algorithms", &O::product_algorithms, Group::kRanks, "t", kMayChange,
                    "which of cuBLASLt's algorithms computes a matrix product: the first that it "
                    "proposes, or, timed, the fastest of up to eight, timed at the start. The run "
                    "then keeps its choices in its checkpoints: it has equal bits when it goes on, "
                    "not when it begins anew")
                  .one_of({"first", "timed"}));
  t.push_back(field("attention", &O::attention, Group::kRanks, "t", kMayChange,
                    "what computes attention on a GPU: facet's own kernels, or cuDNN's, which take "
                    "bf16 and fp16, no --enable_mmca_attention, and as many heads of keys as of "
                    "queries")
                  .one_of({"facet", "cudnn"}));
  t.push_back(field("attention_backward", &O::attention_backward, Group::kRanks, "t", kMayChange,
                    "how facet's own kernels on an A100, H100 or H200 compute the gradients of "
                    "attention with heads of width 128 in bf16 or fp16: separate has a kernel for "
                    "those of the queries and one for those of keys and values; joint has one for "
                    "all, which multiplies five matrices in place of seven and adds the gradients "
                    "of the queries up in memory, so the bits of the two differ")
                  .one_of({"separate", "joint"}));
  t.push_back(
      field(
          "lora_products", &O::lora_products, Group::kRanks, "t", kMayChange,
          "how a GPU adds LoRA to a linear layer: separate computes them apart and adds "
          "them up, which rounds twice; fused, on an H100 or H200 in bf16 or fp16 and for "
          "ranks that are multiples of 8, computes both in one product of facet's own in "
          "place of cuBLASLt's and rounds once, so the bits of the two differ, and LoRA's first "
          "product of SwiGLU's output within SwiGLU; timed times both ways of each for each shape "
          "at the start, those of SwiGLU on any GPU, takes the faster, and keeps the choices in "
          "the checkpoints")
          .one_of({"separate", "fused", "timed"}));
  t.push_back(
      field("threads", &O::threads, Group::kRanks, "tegcb", kMayChange,
            "compute threads of each rank; 0: its share of the cores it is bound to, at most "
            "SLURM_CPUS_PER_TASK and OMP_NUM_THREADS")
          .in(0, 4096));
  t.push_back(field("local_rank", &O::local_rank, Group::kRanks, "t", kMayChange,
                    "accepted for old launch scripts, and ignored")
                  .ignored());
  t.push_back(field("deepspeed_config", &O::deepspeed_config, Group::kRanks, "t", kMayChange,
                    "DeepSpeed's JSON file: batch sizes, precision, ZeRO; the command line takes "
                    "precedence")
                  .merged());
}

void add_zero_fields(std::vector<OptionField>& t) {
  const auto zero = [&](const char* name, OptionMember member, OnResume on_resume,
                        const char* help) {
    return field(name, member, Group::kRanks, "t", on_resume, help);
  };
  t.push_back(zero("stage3_param_persistence_threshold", &O::stage3_param_persistence_threshold,
                   kMayChange,
                   "stage 3: parameters with fewer elements stay on every rank and are not "
                   "gathered")
                  .in(0, 1LL << 40));
  t.push_back(zero("stage3_max_live_parameters", &O::stage3_max_live_parameters, kMayChange,
                   "stage 3: gather ahead only while a rank holds at most this many gathered "
                   "elements")
                  .in(0, 1LL << 40));
  t.push_back(zero("stage3_prefetch_bucket_size", &O::stage3_prefetch_bucket_size, kMayChange,
                   "stage 3: elements gathered ahead of their use; 0: none")
                  .in(0, 1LL << 40));
  t.push_back(zero("reduce_bucket_size", &O::reduce_bucket_size, kMayChange,
                   "gradients are summed over the ranks in buckets of this many elements, at "
                   "least a few dozen per rank; any size gives the same bits and takes twice its "
                   "bytes on each rank; 0: 2000000, with --device cuda 16000000 and "
                   "--overlap_comm")
                  .in(0, 1 << 30));
  t.push_back(zero("overlap_comm", &O::overlap_comm, kMayChange,
                   "send a bucket while the backward pass fills the next one, which takes the "
                   "memory of a second bucket; the same bits"));
  t.push_back(zero("communication_data_type", &O::communication_data_type, kMayChange,
                   "bf16, fp16: each rank's gradients are rounded before they are sent, for half "
                   "the bytes; they are still summed in fp32 and in rank order, and the sums are "
                   "not rounded")
                  .one_of({"fp32", "bf16", "fp16"}));
  t.push_back(
      zero("offload_optimizer", &O::offload_optimizer, kMayChange,
           "cpu: optimizer state in page-locked host memory, and its step is computed there; "
           "the same bits. --device cpu has it there anyway")
          .one_of({"none", "cpu"}));
  t.push_back(
      zero("offload_param", &O::offload_param, kMayChange,
           "cpu: with --zero_stage 3 and --offload_optimizer cpu, this rank's slices of the "
           "parameters in page-locked host memory too; they come to the GPU for each use, "
           "those of the next block while one computes; the same bits. --device cpu has them "
           "there anyway")
          .one_of({"none", "cpu"}));
}

}  // namespace

void add_ranks_options(std::vector<OptionField>& t) {
  add_rank_fields(t);
  add_zero_fields(t);
}

}  // namespace facet
