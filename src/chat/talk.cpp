#include "chat/talk.h"

#include <utility>

#include "base/timer.h"

namespace facet {

Talk::Talk(const RoundPieces& pieces, Context& context, Together together)
    : pieces_(pieces),
      together_(std::move(together)),
      decoding_(pieces.model(), context, pieces.rules().max_seq_len),
      now_(pieces, pieces.rules().max_seq_len) {}

std::optional<Answer> Talk::answer(const GenerationRound& round, const ChooseToken& choose,
                                   const GoesOn& goes_on) {
  const Timer timer;
  Dialogue next = now_;
  std::optional<MicroBatch> asked;
  together_([&] { asked = next.ask(round); });
  if (!asked) return {};
  before_.push_back(std::exchange(now_, std::move(next)));
  if (now_.starts_anew()) decoding_.rewind(0);
  const std::vector<float>* logits = &decoding_.append(*asked);
  bool heard = goes_on({});
  while (heard) {
    const std::optional<int32_t> token = now_.answer_on(*logits, choose);
    if (!token) break;
    logits = &decoding_.append_token(*token);
    heard = goes_on(now_.answer_ids());
  }
  if (!heard) now_.interrupt();
  Answer answer = now_.answer();
  answer.seconds = timer.seconds();
  return answer;
}

bool Talk::undo() {
  if (before_.empty()) return false;
  now_ = std::move(before_.back());
  before_.pop_back();
  if (!now_.starts_anew()) decoding_.rewind(now_.length());
  return true;
}

void Talk::clear() {
  before_.clear();
  now_ = Dialogue(pieces_, pieces_.rules().max_seq_len);
  decoding_.rewind(0);
}

// A whole conversation in one piece, with as many of the images as fit.
void Talk::run_largest_pieces(const RoundPieces& pieces, Context& context, int64_t images) {
  const int64_t most = pieces.rules().max_seq_len;
  GenerationRound round;
  round.images.resize(static_cast<size_t>(images));
  const auto prompt = [&] {
    return pieces.piece(pieces.prompt_ids(round, {}), round.images, RoundPieces::Pixels::kBlank);
  };
  MicroBatch largest = prompt();
  while (!round.images.empty() && pieces.length(largest) > most) {
    round.images.pop_back();
    largest = prompt();
  }
  VisionLanguageModel::Decoding decoding(pieces.model(), context, most);
  const int64_t room = most - pieces.length(largest);
  if (room < 0) return;  // no round is ever answered
  largest.token_ids.insert(largest.token_ids.end(), static_cast<size_t>(room), pieces.end_id());
  largest.labels.resize(largest.token_ids.size(), kIgnoredLabel);
  largest.sample_begin.back() = static_cast<int32_t>(largest.token_ids.size());
  decoding.append(largest);
}

}  // namespace facet
