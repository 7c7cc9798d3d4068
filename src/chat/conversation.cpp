#include "chat/conversation.h"

#include <algorithm>

#include "data/image.h"

namespace facet {

namespace {

int64_t images_before(const GenerationTest& test, size_t round) {
  int64_t images = 0;
  for (size_t r = 0; r < round; ++r) images += static_cast<int64_t>(test.rounds[r].images.size());
  return images;
}

int64_t spliced_length(const MicroBatch& piece, int64_t image_tokens) {
  return piece.num_tokens() + piece.num_images() * (image_tokens - 1);
}

}  // namespace

// The prompt of the round, preceded by `head`, the tokens of the last answer that are not in the
// cache yet.
MicroBatch Conversation::piece(const GenerationTest& test, size_t round, std::vector<int32_t> head,
                               Pixels pixels) const {
  const std::vector<std::string>& images = test.rounds[round].images;
  const auto num_images = static_cast<int64_t>(images.size());
  const std::vector<int32_t> prompt =
      prompt_.round_prompt(test.rounds[round].question, num_images, static_cast<int64_t>(round),
                           images_before(test, round));
  MicroBatch piece;
  piece.token_ids = std::move(head);
  piece.token_ids.insert(piece.token_ids.end(), prompt.begin(), prompt.end());
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
      load_image(images[i], limits_.max_image_pixels, sink);
    }
  return piece;
}

// The most positions that the conversation can take.
int64_t Conversation::capacity(const GenerationTest& test) const {
  int64_t positions = 0;
  for (size_t r = 0; r < test.rounds.size(); ++r) {
    if (prompt_.surely_too_long(test.rounds[r].question)) return limits_.max_seq_len;
    positions += spliced_length(piece(test, r, {}, Pixels::kBlank), model_.config.image_tokens()) +
                 limits_.max_new_tokens + 1;  // and EOS
  }
  return std::min(positions, limits_.max_seq_len);
}

bool Conversation::ends_answer(int32_t token) const {
  const std::vector<int32_t>& ends = model_.end_tokens;
  return token == prompt_.end_id() || token == model_.tokenizer->eos_id() ||
         std::find(ends.begin(), ends.end(), token) != ends.end();
}

std::string Conversation::text_of(const std::vector<int32_t>& ids) const {
  const std::string text = model_.tokenizer->decode(ids);
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

void Conversation::run_largest_pieces(Context& context, const GenerationTest& test) {
  const int64_t most = capacity(test);
  for (size_t round = 0; round < test.rounds.size(); ++round) {
    if (prompt_.surely_too_long(test.rounds[round].question)) break;
    MicroBatch prompt = piece(test, round, {}, Pixels::kBlank);
    const int64_t room = most - spliced_length(prompt, model_.config.image_tokens());
    if (room < 0) continue;  // such a round is never answered
    prompt.token_ids.insert(prompt.token_ids.end(), static_cast<size_t>(room),
                            model_.tokenizer->eos_id());
    prompt.labels.resize(prompt.token_ids.size(), kIgnoredLabel);
    prompt.sample_begin.back() = static_cast<int32_t>(prompt.token_ids.size());
    VisionLanguageModel::Decoding(*model_.model, context, most).append(prompt);
  }
}

std::vector<std::string> Conversation::answers(Context& context, const GenerationTest& test,
                                               const ChooseToken& choose) {
  const int64_t most = capacity(test);
  const int32_t end = prompt_.end_id();
  VisionLanguageModel::Decoding decoding(*model_.model, context, most);
  std::vector<std::string> answers;
  std::vector<int32_t> unsaid;  // generated, but not yet in the cache
  for (size_t round = 0; round < test.rounds.size(); ++round) {
    if (prompt_.surely_too_long(test.rounds[round].question)) break;
    const MicroBatch prompt = piece(test, round, std::move(unsaid), Pixels::kFromFiles);
    if (decoding.length() + spliced_length(prompt, model_.config.image_tokens()) > most) break;
    const std::vector<float>* logits = &decoding.append(prompt);
    std::vector<int32_t> answer;
    unsaid.clear();
    while (unsaid.empty()) {
      const int32_t token = choose(static_cast<int64_t>(round), *logits);
      if (ends_answer(token)) {
        unsaid = {end};
        break;
      }
      answer.push_back(token);
      if (static_cast<int64_t>(answer.size()) == limits_.max_new_tokens ||
          decoding.length() == most)
        unsaid = {token, end};
      else
        logits = &decoding.append_token(token);
    }
    answers.push_back(text_of(answer));
  }
  return answers;
}

}  // namespace facet
