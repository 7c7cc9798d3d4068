#include "chat/round_pieces.h"

#include <algorithm>

#include "data/image.h"

namespace facet {

std::string without_outer_blanks(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

std::vector<int32_t> RoundPieces::prompt_ids(const GenerationRound& round, RoundPlace place) const {
  return prompt_.round_prompt(round.question, static_cast<int64_t>(round.images.size()),
                              place.rounds_before, place.images_before, rules_.image_numbers);
}

MicroBatch RoundPieces::piece(std::vector<int32_t> ids, std::span<const std::string> images,
                              Pixels pixels) const {
  const auto num_images = static_cast<int64_t>(images.size());
  MicroBatch piece;
  piece.token_ids = std::move(ids);
  piece.labels.assign(piece.token_ids.size(), kIgnoredLabel);
  piece.sample_begin.push_back(static_cast<int32_t>(piece.token_ids.size()));
  piece.images_per_sample = {static_cast<int32_t>(num_images)};
  piece.dataset_of_sample = {0};
  piece.sample_ids = {0};
  piece.image_token_id = model_.tokenizer->image_id();
  const int64_t size = model_.preprocessor->image_size();
  piece.image_size = static_cast<int32_t>(size);
  piece.pixels.resize(static_cast<size_t>(num_images * 3 * size * size));
  if (pixels == Pixels::kFromFiles)
    for (size_t i = 0; i < images.size(); ++i) {
      ImagePixels sink(*model_.preprocessor,
                       piece.pixels.data() + static_cast<int64_t>(i) * 3 * size * size);
      load_image(images[i], rules_.max_image_pixels, sink);
    }
  return piece;
}

int64_t RoundPieces::length(const MicroBatch& piece) const {
  return piece.num_tokens() + piece.num_images() * (model_.config.image_tokens() - 1);
}

std::vector<ChoiceTokens> RoundPieces::choices(const GenerationRound& round,
                                               RoundPlace place) const {
  std::vector<ChoiceTokens> choices;
  for (const std::string& text : round.choices) {
    const TokenizedSample whole =
        prompt_.whole_round({round.question, text, static_cast<int64_t>(round.images.size())},
                            place.rounds_before, place.images_before, rules_.image_numbers);
    const auto first = std::find_if(whole.labels.begin(), whole.labels.end(),
                                    [](int32_t label) { return label != kIgnoredLabel; });
    choices.push_back({whole.token_ids, static_cast<size_t>(first - whole.labels.begin()),
                       whole.token_ids.size() - 1});
  }
  return choices;
}

// The most tokens of an answer, its end token included.
int64_t RoundPieces::longest_answer(const GenerationRound& round, RoundPlace place) const {
  if (!rules_.score) return rules_.max_new_tokens + 1;
  size_t longest = 0;
  for (const ChoiceTokens& choice : choices(round, place))
    longest = std::max(longest, choice.ids.size());
  const size_t prompt = prompt_ids(round, place).size();
  return static_cast<int64_t>(longest - std::min(longest, prompt)) + 1;
}

bool RoundPieces::surely_too_long(const GenerationRound& round) const {
  return prompt_.surely_too_long(round.question) ||
         std::any_of(round.choices.begin(), round.choices.end(),
                     [&](const std::string& text) { return prompt_.surely_too_long(text); });
}

int64_t RoundPieces::capacity(const GenerationTest& test) const {
  int64_t positions = 0;
  RoundPlace place;
  for (const GenerationRound& round : test.rounds) {
    if (surely_too_long(round)) return rules_.max_seq_len;
    positions += length(piece(prompt_ids(round, place), round.images, Pixels::kBlank)) +
                 longest_answer(round, place);
    place.pass(round);
  }
  return std::min(positions, rules_.max_seq_len);
}

void RoundPieces::for_largest_pieces(const GenerationTest& test,
                                     const std::function<void(const MicroBatch&)>& body) const {
  const int64_t most = capacity(test);
  RoundPlace place;
  std::vector<int32_t> ids;
  std::vector<std::string> images;
  for (const GenerationRound& round : test.rounds) {
    if (surely_too_long(round)) break;
    if (!starts_anew()) {
      ids.clear();
      images.clear();
    }
    const std::vector<int32_t> of_round = prompt_ids(round, place);
    ids.insert(ids.end(), of_round.begin(), of_round.end());
    images.insert(images.end(), round.images.begin(), round.images.end());
    MicroBatch prompt = piece(ids, images, Pixels::kBlank);
    place.pass(round);
    const int64_t room = most - length(prompt);
    if (room < 0) continue;  // such a round is never answered
    prompt.token_ids.insert(prompt.token_ids.end(), static_cast<size_t>(room),
                            tokenizer().eos_id());
    prompt.labels.resize(prompt.token_ids.size(), kIgnoredLabel);
    prompt.sample_begin.back() = static_cast<int32_t>(prompt.token_ids.size());
    body(prompt);
  }
}

bool RoundPieces::ends_answer(int32_t token) const {
  const std::vector<int32_t>& ends = model_.end_tokens;
  return token == prompt_.end_id() || token == model_.tokenizer->eos_id() ||
         std::find(ends.begin(), ends.end(), token) != ends.end();
}

size_t RoundPieces::stop_in(const std::string& text) const {
  size_t first = std::string::npos;
  for (const std::string& stop : rules_.stop_strings) first = std::min(first, text.find(stop));
  return first;
}

std::string RoundPieces::text_of(std::span<const int32_t> answer) const {
  const std::string text = model_.tokenizer->decode(answer);
  const std::string before_stop = text.substr(0, stop_in(text));
  return starts_anew() ? before_stop : without_outer_blanks(before_stop);
}

}  // namespace facet
