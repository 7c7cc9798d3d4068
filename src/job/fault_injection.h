// --inject FAULT[;FAULT...] makes faults happen at named moments, so that restarts can be tested
// without depending on timing:
//
//   kill@MOMENT:rank=R,step=S   ends rank R by SIGKILL
//   stop@MOMENT:rank=R,step=S   stops it by SIGSTOP, which the watchdog should notice
//   fail@MOMENT:rank=R,step=S   ends the save with an error on rank R
//   nan@grad:rank=R,step=S      puts a NaN into rank R's gradient of a step; without step= of every
//                               step
//   slow@MOMENT:ms=M            every rank sleeps M milliseconds, each time; rank= and step=
//                               restrict it
//
// Without ,step=S the fault happens at the first such moment.
//
// Moments: data (before a step's samples are fetched), data.read (before a rank reads a sample, on
// whichever thread; its step=S is the S-th sample that the rank reads, those that the set-up tries
// included), compute (after its last backward, before the sums of all gradients are waited for),
// log (before the step's row is written), evaluate (before a batch of an evaluation is fetched),
// step (after a step), export (before a piece of an export is written, on rank 0), and of a
// checkpoint, in this order: ckpt.begin (its file is there, nothing written), ckpt.write (half of
// this rank's state written), ckpt.written (all of it), ckpt.rename (before it gets its name),
// ckpt.latest (named), ckpt.retention (`latest` names it), ckpt.removal (an older one renamed,
// about to be removed). Of `facet bandwidth`: bandwidth (before an all-reduce, within its time).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet {

struct Fault {
  std::string action, moment;
  int64_t rank = -1, step = -1, milliseconds = -1;  // -1: not given
};

class FaultInjection {
 public:
  // An empty text injects nothing. Throws Error(kUsage) that lists what is allowed; `name` is where
  // the text comes from.
  static FaultInjection parse(const std::string& text, const char* name = "--inject");
  // The faults of the option and of the environment variable FACET_INJECT; with the variable a
  // killed run can be restarted by the same command.
  static FaultInjection of_run(const std::string& option);

  const std::vector<Fault>& faults() const { return faults_; }
  // Of of_run(): the option and the variable as they were given, "" if there are none.
  const std::string& told() const { return told_; }

  // Is there a fault at that moment, of any rank?
  bool strikes(const std::string& moment) const;

  // Is a gradient to be made NaN, in any step of any rank?
  bool poisons_gradients() const;
  // Is one of this rank in this step?
  bool poisons(int64_t my_rank, int64_t step) const;
  bool poisons_anybody(int64_t step) const;

  // Called at every moment; by the writing thread in a background save. Throws Error(kIo) for a
  // fail fault.
  void at(const std::string& moment, int64_t my_rank, int64_t step) const;

 private:
  std::vector<Fault> faults_;
  std::string told_;
};

}  // namespace facet
