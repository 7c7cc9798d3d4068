// Passes over the model for which the ranks have different work: each answers questions of its own,
// token by token, and some are done earlier. All begin each pass together, and one that has nothing
// to compute in it still uses the units, so that where parameters are partitioned all ranks gather
// the same in the same order.
//
// A pass is one of text, or begins with the vision encoder and goes on as one of text.
#pragma once

#include <functional>
#include <vector>

#include "comm/communicator.h"
#include "nn/context.h"
#include "zero/unit_window.h"

namespace facet {

// The units of a pass with images in the order of their use, and where those of a pass of text
// begin.
struct PassOrder {
  std::vector<int> units;
  size_t text_begin = 0;
};

// Takes the order down while layers run: that of the longest pass.
class OrderHooks : public UnitHooks {
 public:
  explicit OrderHooks(const ParamTable& table);

  void before(int unit, Phase phase) override;
  PassOrder order() const;

 private:
  int first_of_text_, last_of_text_;
  std::vector<int> pass_;     // so far
  std::vector<int> longest_;  // of those that ended
};

class PassesTogether : public UnitHooks {
 public:
  // All ranks call meet() before each pass; what it throws is thrown on all of them. nullptr: no
  // parameters are partitioned.
  PassesTogether(Communicator& world, const PassOrder& order, UnitWindow* window,
                 std::function<void()> meet);

  // The layers of this rank's own passes.
  void before(int unit, Phase phase) override;
  void after(int unit, Phase phase) override;
  // Is this rank inside a pass? Then what it throws cannot be made good: others wait for it.
  bool in_pass() const { return in_pass_; }

  // Collective: this rank has no pass left. Returns when none has.
  void finish();

 private:
  void begin_pass(bool with_images);
  int64_t agree(int64_t mine);
  void use(size_t begin, size_t end);

  Communicator& world_;
  const PassOrder& order_;
  UnitWindow* window_;
  std::function<void()> meet_;
  bool in_pass_ = false;
};

}  // namespace facet
