// A conversation with somebody who asks round by round, may stop an answer and may take rounds
// back.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "chat/dialogue.h"

namespace facet {

class Talk {
 public:
  // Runs what reads a round's images: on several ranks it must throw on all of them or on none.
  using Together = std::function<void(const std::function<void()>& work)>;
  // Takes the memory of max_seq_len positions in the context's arena. The arguments must outlive
  // it.
  Talk(
      const RoundPieces& pieces, Context& context, Together together = [](auto& work) { work(); });

  // Told the tokens of an answer after each of them; false: the answer ends here.
  using GoesOn = std::function<bool(std::span<const int32_t> answer)>;
  // Nothing: the round no longer fits. Then, and if an image can't be read (Error), the
  // conversation is as it was.
  std::optional<Answer> answer(const GenerationRound& round, const ChooseToken& choose,
                               const GoesOn& goes_on);

  // Takes the last round back; false: there is none.
  bool undo();
  // Takes all of them back.
  void clear();

  int64_t rounds() const { return now_.place().rounds_before; }
  int64_t images() const { return now_.place().images_before; }
  int64_t length() const { return now_.length(); }  // positions that are taken

  // For measuring: the largest pieces that a conversation with so many images can run into.
  static void run_largest_pieces(const RoundPieces& pieces, Context& context, int64_t images);

 private:
  const RoundPieces& pieces_;
  const Together together_;
  VisionLanguageModel::Decoding decoding_;
  Dialogue now_;
  std::vector<Dialogue> before_;  // each round
};

}  // namespace facet
