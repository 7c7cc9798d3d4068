#include "train/passes_together.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/progress.h"
#include "comm/mpi_session.h"

namespace facet {

namespace {

// What the ranks compute in a pass, a bit each; 0: none has a pass left.
constexpr int64_t kText = 1, kImages = 2;

int unit_named(const ParamTable& table, std::string_view name) {
  const std::vector<ParamUnit>& units = table.units();
  const auto found = std::find_if(units.begin(), units.end(),
                                  [&](const ParamUnit& unit) { return unit.name == name; });
  ASSERT(found != units.end(), "the model has no unit {}", name);
  return static_cast<int>(found - units.begin());
}

}  // namespace

OrderHooks::OrderHooks(const ParamTable& table)
    : first_of_text_(unit_named(table, "lang_embed")),
      last_of_text_(unit_named(table, "lang_decoder.head")) {}

void OrderHooks::before(int unit, Phase) {
  pass_.push_back(unit);
  if (unit != last_of_text_) return;
  if (pass_.size() > longest_.size()) longest_ = pass_;
  pass_.clear();
}

PassOrder OrderHooks::order() const {
  PassOrder order{longest_, 0};
  while (order.text_begin < longest_.size() && longest_[order.text_begin] != first_of_text_)
    ++order.text_begin;
  return order;
}

PassesTogether::PassesTogether(Communicator& world, const PassOrder& order, UnitWindow* window,
                               std::function<void()> meet, Communicator* group)
    : world_(world), order_(order), window_(window), group_(group), meet_(std::move(meet)) {}

void PassesTogether::before(int unit, Phase) {
  note_progress();
  if (!in_pass_) begin_pass(unit != order_.units[order_.text_begin]);
  if (window_ != nullptr) window_->use(unit);
}

void PassesTogether::after(int unit, Phase) {
  if (unit == order_.units.back()) in_pass_ = false;
}

// Before each pass, and when a conversation is over: what one rank of a group cannot go on with
// none of them does, for in a pass the others would wait for it.
void PassesTogether::agree_in_group(const Error* failed) {
  if (group_ == nullptr) return;
  try {
    collectively(*group_, [&] {
      if (failed != nullptr) throw *failed;
    });
  } catch (const CollectiveError& error) {
    throw ConversationError(error.code(), fmt::format("of {} ranks that answer together: {}",
                                                      group_->size(), error.what()));
  }
}

void PassesTogether::converse(const std::function<void()>& conversation) {
  try {
    conversation();
  } catch (const ConversationError&) {
    throw;
  } catch (const CollectiveError&) {
    throw;
  } catch (const Error& error) {
    if (in_pass_) throw;
    agree_in_group(&error);
    throw ConversationError(error.code(), error.what());
  }
  agree_in_group();
}

void PassesTogether::begin_pass(bool with_images) {
  agree_in_group();
  const int64_t all = agree(with_images ? kImages : kText);
  if (!with_images && (all & kImages) != 0) use(0, order_.text_begin);
  in_pass_ = true;
}

int64_t PassesTogether::agree(int64_t mine) {
  meet_();
  return world_.bit_or(mine);
}

void PassesTogether::use(size_t begin, size_t end) {
  if (window_ == nullptr) return;
  for (size_t i = begin; i < end; ++i) window_->use(order_.units[i]);
}

void PassesTogether::finish() {
  while (const int64_t all = agree(0))
    use((all & kImages) != 0 ? 0 : order_.text_begin, order_.units.size());
}

}  // namespace facet
