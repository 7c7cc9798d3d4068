// Passes over the model for which the ranks have different work: each answers questions of its own,
// token by token, and some are done earlier. All begin each pass together, and one that has nothing
// to compute in it still uses the units, so that where parameters are partitioned all ranks gather
// the same in the same order.
//
// A pass is one of text, or begins with the vision encoder and goes on as one of text.
#pragma once

#include <functional>
#include <vector>

#include "base/check.h"
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

// What ended a conversation, but nothing else.
class ConversationError : public Error {
 public:
  using Error::Error;
};

class PassesTogether : public UnitHooks {
 public:
  // All ranks call meet() before each pass; what it throws is thrown on all of them. nullptr for
  // the window: no parameters are partitioned. `group`: ranks that compute each pass together;
  // nullptr: each has passes of its own.
  PassesTogether(Communicator& world, const PassOrder& order, UnitWindow* window,
                 std::function<void()> meet, Communicator* group = nullptr);

  // The layers of this rank's own passes.
  void before(int unit, Phase phase) override;
  void after(int unit, Phase phase) override;
  // Collective over the group: runs all passes of a conversation. An error of one rank between two
  // of them is thrown by the whole group, as a ConversationError; one inside a pass, where others
  // wait for the rank, cannot be made good and is thrown as it is.
  void converse(const std::function<void()>& conversation);

  // Collective: this rank has no pass left. Returns when none has.
  void finish();

 private:
  void agree_in_group(const Error* failed = nullptr);
  void begin_pass(bool with_images);
  int64_t agree(int64_t mine);
  void use(size_t begin, size_t end);

  Communicator& world_;
  const PassOrder& order_;
  UnitWindow* window_;
  Communicator* group_;
  std::function<void()> meet_;
  bool in_pass_ = false;
};

}  // namespace facet
