#include "chat/conversation_batch.h"

#include <algorithm>
#include <functional>
#include <list>

#include "base/timer.h"

namespace facet {

namespace {

using Decoding = VisionLanguageModel::BatchDecoding;

// A conversation under way.
class Held {
 public:
  Held(const RoundPieces& pieces, Decoding& decoding, ConversationBatch::Start start)
      : start_(std::move(start)),
        capacity_(pieces.capacity(*start_.test)),
        dialogue_(pieces, capacity_),
        decoding_(decoding),
        sequence_(decoding.open(capacity_)) {}
  ~Held() { decoding_.close(sequence_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  // Runs the next round's prompt. False: the conversation has ended.
  bool ask() {
    if (answers_.size() == start_.test->rounds.size()) return false;
    const GenerationRound& round = start_.test->rounds[answers_.size()];
    since_asked_.restart();
    const std::optional<MicroBatch> asked = dialogue_.ask(round);
    if (!asked) return false;
    if (dialogue_.starts_anew()) decoding_.rewind(sequence_, 0);
    decoding_.append(sequence_, *asked, names_of_images(round));
    decoding_.run();
    return true;
  }
  // Chooses a token, or completes the answer, asks on and chooses the first one. False: the
  // conversation has ended.
  bool answer_on() {
    do {
      token_ = dialogue_.answer_on(decoding_.logits(sequence_), start_.choose);
      if (token_) return true;
      answers_.push_back(dialogue_.answer());
      answers_.back().seconds = since_asked_.seconds();
    } while (ask());
    return false;
  }
  // Gives that token to the model, which is to be run.
  void say() { decoding_.append_token(sequence_, *token_); }
  int64_t number() const { return start_.number; }
  std::vector<Answer> answers() {
    answers_.resize(start_.test->rounds.size());
    return std::move(answers_);
  }

 private:
  // Of the images that are asked. Those of a whole conversation have none.
  std::span<const std::string> names_of_images(const GenerationRound& round) const {
    if (dialogue_.starts_anew()) return {};
    return round.images;
  }

  ConversationBatch::Start start_;
  int64_t capacity_;
  Dialogue dialogue_;
  Decoding& decoding_;
  int sequence_;
  std::optional<int32_t> token_;
  std::vector<Answer> answers_;
  Timer since_asked_;
};

}  // namespace

ConversationBatch::ConversationBatch(const RoundPieces& pieces, std::vector<int64_t> capacities,
                                     int64_t most)
    : pieces_(pieces), largest_(std::move(capacities)) {
  std::sort(largest_.begin(), largest_.end(), std::greater<>());
  if (static_cast<int64_t>(largest_.size()) > most) largest_.resize(static_cast<size_t>(most));
  for (const int64_t capacity : largest_) pages_ += Decoding::pages_for(capacity);
}

// All prompts have been run before the first token waits to be.
void ConversationBatch::hold(Context& context, const Next& next, const Finished& finished) const {
  const bool alone = largest_.size() <= 1;
  Decoding decoding(pieces_.model(), context, pages_,
                    alone ? Decoding::Sharing::kOff : Decoding::Sharing::kOn);
  std::list<Held> held;
  const auto end = [&](std::list<Held>::iterator ended) {
    finished(ended->number(), ended->answers());
    return held.erase(ended);
  };
  bool more = !largest_.empty();
  while (more || !held.empty()) {
    while (more && held.size() < largest_.size()) {
      std::optional<Start> start = next();
      more = start.has_value();
      if (!more) break;
      held.emplace_back(pieces_, decoding, std::move(*start));
      if (!held.back().ask()) end(std::prev(held.end()));
    }
    for (auto one = held.begin(); one != held.end();)
      one = one->answer_on() ? std::next(one) : end(one);
    for (Held& one : held) one.say();
    decoding.run();
  }
}

// ---- measuring

void ConversationBatch::run_largest_forwards(
    Context& context, const std::vector<const GenerationTest*>& tests) const {
  Decoding decoding(pieces_.model(), context, pages_, Decoding::Sharing::kOff);
  for (const GenerationTest* test : tests) {
    // On the pool's last pages.
    const int64_t most = pieces_.capacity(*test);
    const int64_t before = pages_ - Decoding::pages_for(most);
    const auto run_behind_others = [&](const MicroBatch& prompt) {
      std::vector<int> open;
      if (before > 0) {
        open.push_back(decoding.open(before * Decoding::kPageRows));
        decoding.append_token(open.back(), 0);
      }
      open.push_back(decoding.open(most));
      decoding.append(open.back(), prompt);
      decoding.run();
      for (const int sequence : open) decoding.close(sequence);
    };
    naming(*test, [&] { pieces_.for_largest_pieces(*test, run_behind_others); });
  }
  run_a_token_of_each(decoding);
}

void ConversationBatch::run_a_token_of_each(Decoding& decoding) const {
  std::vector<int> all;
  for (const int64_t capacity : largest_) {
    all.push_back(decoding.open(capacity));
    decoding.append_token(all.back(), 0);
  }
  decoding.run();
  for (const int sequence : all) decoding.close(sequence);
}

}  // namespace facet
