// The options of group "Output" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

void add_output_fields(std::vector<OptionField>& t) {
  const auto output = [&](const char* name, OptionMember member, OnResume on_resume,
                          const char* help) {
    return field(name, member, Group::kOutput, "t", on_resume, help);
  };
  t.push_back(output("output_dir", &O::output_dir, kMayChange,
                     "directory for logs, checkpoints and models; used by one run at a time")
                  .new_directory()
                  .usually_given());
  t.push_back(
      output("steps_per_print", &O::steps_per_print, kMayChange, "print a line every N steps")
          .in(1, 1LL << 40));
  t.push_back(output("dry_run", &O::dry_run, kMayChange,
                     "check everything, read 100 records of each data set, print steps, groups "
                     "and memory; with --output_dir: that it can be written, is free, has room for "
                     "a checkpoint and an export, and what the run would continue from"));
  t.push_back(
      output("check_all_samples", &O::check_all_samples, kMayChange,
             "with --dry_run: decode and build every record of the data sets, on all ranks, "
             "and list all bad ones; exit code 65 if there are any"));
  t.push_back(output("replay_step", &O::replay_step, kMayChange,
                     "repeat this step of the run in --output_dir, from its newest checkpoint "
                     "before it, tell all about it and compare it with the log; the run is left as "
                     "it is. With --dump_batches its micro-batches go to OUT/step_N.batches.h5; 0: "
                     "train")
                  .in(0, 1LL << 40));
  t.push_back(output("save_interval", &O::save_interval, kMayChange,
                     "save a checkpoint every N steps, besides the one at the end of each epoch; "
                     "0: that one only; the same command resumes from the newest")
                  .in(0, 1LL << 40));
  t.push_back(
      output("save_minutes", &O::save_minutes, kMayChange,
             "save a checkpoint when the last one is this many minutes old; 0: never by the clock")
          .in(0, 1e6));
  t.push_back(
      output("keep_last", &O::keep_last, kMayChange, "keep this many checkpoints, the newest")
          .in(1, 1 << 20));
  t.push_back(output("keep_best", &O::keep_best, kMayChange,
                     "export the model to OUT/best at each evaluation with the lowest loss so "
                     "far"));
  t.push_back(
      field(
          "export", &O::export_kind, Group::kOutput, "tx", kMayChange,
          "full: a whole model with LoRA merged into it; adapter: only what was trained, in PEFT's "
          "format; none: nothing; auto: a run leaves an adapter after each epoch and the whole "
          "model at the end, or with no LoRA or with more of the models trained the whole model "
          "each time, and facet export makes the whole model")
          .one_of({"auto", "full", "adapter", "none"})
          .usually_given());
  t.push_back(output("export_every", &O::export_every, kMayChange,
                     "export after every N-th epoch, and at the end")
                  .in(1, 1 << 20));
  t.push_back(output("keep_exports", &O::keep_exports, kMayChange,
                     "keep this many of OUT/epoch-N, the newest; older ones go when a newer one is "
                     "complete; 0: keep all")
                  .in(0, 1 << 20));
  t.push_back(field("export_dtype", &O::export_dtype, Group::kOutput, "tx", kMayChange,
                    "type of exported tensors; auto: each as in the file that it was read from, "
                    "frozen ones bit for bit, and fp32 for those that no file had")
                  .one_of({"auto", "fp32", "bf16", "fp16"}));
  t.push_back(field("to", &O::to, Group::kOutput, "x", kNotOfTraining,
                    "directory to export to, which must not be there yet")
                  .required("x")
                  .new_directory());
  t.push_back(output("checkpoint_io", &O::checkpoint_io, kMayChange,
                     "posix: each rank writes its own bytes; collective: MPI-IO by all ranks, for "
                     "file systems that need it (takes a parallel HDF5)")
                  .one_of({"posix", "collective"}));
  t.push_back(output("async_checkpoint", &O::async_checkpoint, kMayChange,
                     "write checkpoints while training goes on, from a copy of the state in "
                     "memory; with --checkpoint_io posix only"));
  t.push_back(
      output("max_hours", &O::max_hours, kMayChange,
             "save and stop with exit code 85 before this many hours have passed, as on "
             "SIGTERM, SIGUSR1, SIGUSR2, SIGHUP or SIGINT to the ranks (to mpirun: SIGUSR1, "
             "which it forwards); 0: before Slurm's time limit, if there is one")
          .in(0, 1e6));
  t.push_back(output(
      "inject", &O::inject, kMayChange,
      "faults for trying out restarts, separated by ';': kill@MOMENT:rank=R,step=S kills that "
      "rank, stop@... stops it, fail@... makes its disk fail, slow@MOMENT:ms=M sleeps, "
      "nan@grad:rank=R,step=S puts a NaN into that rank's gradient; moments are data, data.read, "
      "compute, log, evaluate, sample, step, export, ckpt.begin, ckpt.write, ckpt.written, "
      "ckpt.rename, "
      "ckpt.latest, ckpt.retention, ckpt.removal; the environment variable FACET_INJECT adds "
      "more"));
  t.push_back(output("wall_clock_breakdown", &O::wall_clock_breakdown, kMayChange,
                     "print what forward, backward, reduction, optimizer and the rest of a step "
                     "took every --steps_per_print steps; a GPU is waited for at the end of each"));
  t.push_back(output("peak_tflops", &O::peak_tflops, kMayChange,
                     "what a rank's processor can do at most, in TFLOP/s, for the column mfu of "
                     "the log; 0: with a GPU worked out from its properties, else mfu stays empty")
                  .in(0, 1e6));
  t.push_back(output("straggler_interval", &O::straggler_interval, kMayChange,
                     "name the slowest rank and its section every N steps; 0: never")
                  .in(0, 1LL << 40));
  t.push_back(output("enable_tensorboard", &O::enable_tensorboard, kMayChange,
                     "write event files for TensorBoard"));
  t.push_back(output("tensorboard_path", &O::tensorboard_path, kMayChange,
                     "directory of the event files, in which --tensorboard_job_name is made; "
                     "without it --output_dir")
                  .new_directory());
  t.push_back(output("tensorboard_job_name", &O::tensorboard_job_name, kMayChange,
                     "directory below --tensorboard_path that holds this run's event files"));
}

// The names of DeepSpeed's hybrid_engine, from max_out_tokens on.
void add_sample_fields(std::vector<OptionField>& t) {
  const auto sample = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kOutput, "t", kMayChange, help);
  };
  t.push_back(sample("sample_prompts", &O::sample_prompts,
                     "answer these questions while training, into OUT/samples.jsonl and "
                     "TensorBoard: JSON as --input of facet generate has it")
                  .file());
  t.push_back(sample("sample_interval", &O::sample_interval,
                     "answer --sample_prompts every N steps and at the end; 0: after each epoch")
                  .in(0, 1LL << 40));
  t.push_back(sample("max_out_tokens", &O::max_out_tokens,
                     "--sample_prompts: longest conversation in tokens, those of questions and "
                     "images included; 0: --max_seq_len")
                  .in(0, 1 << 24));
  t.push_back(sample("pin_parameters", &O::pin_parameters,
                     "--sample_prompts at stage 3: gather all parameters once for all answers, "
                     "which takes a rank the memory of the whole model; else some layers for each "
                     "token"));
  t.push_back(sample("tp_gather_partition_size", &O::tp_gather_partition_size,
                     "--sample_prompts at stage 3 without --pin_parameters: layers that are "
                     "gathered at a time")
                  .in(1, 1 << 20));
  t.push_back(sample("release_inference_cache", &O::release_inference_cache,
                     "--sample_prompts: give back the memory that answers take beyond that of a "
                     "step when they are done; else it is kept"));
}

void add_watchdog_fields(std::vector<OptionField>& t) {
  const auto limit = [&](const char* name, OptionMember member, const char* commands,
                         const char* help) {
    t.push_back(field(name, member, Group::kOutput, commands, kMayChange, help).in(0, 1e9));
  };
  limit("hang_seconds_load", &O::hang_seconds_load, "tegcb",
        "end the job with exit code 86 and one report when a rank makes no progress for this long "
        "during set-up; 0: never");
  limit("hang_seconds_data", &O::hang_seconds_data, "t", "the same while it waits for a sample");
  limit("hang_seconds_compute", &O::hang_seconds_compute, "tgcb",
        "in forward, backward, reduction and optimizer; every block of the model is progress");
  limit("hang_seconds_evaluate", &O::hang_seconds_evaluate, "te",
        "in an evaluation, including its data, and in answering --sample_prompts");
  limit("hang_seconds_save", &O::hang_seconds_save, "tg",
        "in checkpoints, exports, logs and answers");
  limit("hang_seconds_collective", &O::hang_seconds_collective, "tegcb",
        "while all ranks of a host wait for other hosts, whose own watchdogs report nothing");
  limit("hang_seconds_host", &O::hang_seconds_host, "tegcb",
        "end the job likewise when nothing is heard of another host for this long; 0: never");
}

}  // namespace

void add_output_options(std::vector<OptionField>& t) {
  add_output_fields(t);
  add_sample_fields(t);
  add_watchdog_fields(t);
}

}  // namespace facet
