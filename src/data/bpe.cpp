#include "data/bpe.h"

#include <queue>

#include "base/check.h"
#include "base/utf8.h"

namespace facet {

namespace {

uint64_t key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A token of the word as far as it is merged, in a list that shrinks.
struct Symbol {
  int32_t id = 0;
  int32_t previous = -1, next = -1;  // -1: none
  bool merged_away = false;
};

struct Candidate {
  int32_t rank = 0, left = 0, joined = 0;
};

// For a queue that yields the lowest rank first.
bool operator<(const Candidate& a, const Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

}  // namespace

Bpe::Bpe(Settings settings) : settings_(std::move(settings)) {
  by_text_.reserve(settings_.tokens.size());
  for (size_t id = 0; id < settings_.tokens.size(); ++id)
    by_text_.emplace(settings_.tokens[id], static_cast<int32_t>(id));
  merges_.reserve(settings_.merges.size());
  for (size_t rank = 0; rank < settings_.merges.size(); ++rank) {
    const auto [left, right, joined] = settings_.merges[rank];
    merges_[key_of(left, right)] = {static_cast<int32_t>(rank), joined};
  }
}

std::optional<int32_t> Bpe::find(std::string_view text) const {
  const auto found = by_text_.find(text);
  return found == by_text_.end() ? std::nullopt : std::optional(found->second);
}

const Bpe::Merge* Bpe::merge_of(int32_t left, int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::vector<int32_t> Bpe::characters_of(std::string_view word) const {
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  bool after_unknown = false;
  while (!word.empty()) {
    const size_t length = utf8_length(word);
    ASSERT(length > 0, "a word that is no UTF-8");
    const std::string_view character = word.substr(0, length);
    word.remove_prefix(length);
    const std::optional<int32_t> id = find(character);
    const bool is_unknown = !id && !settings_.bytes;
    if (id) {
      ids.push_back(*id);
    } else if (settings_.bytes) {
      for (const char byte : character)
        ids.push_back((*settings_.bytes)[static_cast<unsigned char>(byte)]);
    } else if (!after_unknown || !settings_.fuses_unknown) {
      ASSERT(settings_.unknown, "no token for {}", character);
      ids.push_back(*settings_.unknown);
    }
    after_unknown = is_unknown;
  }
  return ids;
}

std::vector<int32_t> Bpe::merged(const std::vector<int32_t>& ids) const {
  const auto count = static_cast<int32_t>(ids.size());
  std::vector<Symbol> symbols(ids.size());
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int32_t left) {
    const int32_t right = left < 0 ? -1 : symbols[left].next;
    if (right < 0) return;
    if (const Merge* merge = merge_of(symbols[left].id, symbols[right].id))
      queue.push({merge->rank, left, merge->joined});
  };
  for (int32_t i = 0; i < count; ++i) symbols[i] = {ids[i], i - 1, i + 1 < count ? i + 1 : -1};
  for (int32_t i = 0; i < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.left];
    if (left.merged_away || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const Merge* merge = merge_of(left.id, right.id);
    if (merge == nullptr || merge->joined != best.joined)
      continue;  // another pair stands there now
    left.id = best.joined;
    right.merged_away = true;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    offer(left.previous);
    offer(best.left);
  }
  std::vector<int32_t> left_over;
  for (const Symbol& symbol : symbols)
    if (!symbol.merged_away) left_over.push_back(symbol.id);
  return left_over;
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (settings_.ignores_merges)
    if (const auto whole = find(word)) return ids.push_back(*whole);
  CHECK(word.size() <= INT32_MAX, ExitCode::kBadData, "a word of {} bytes", word.size());
  const std::vector<int32_t> joined = merged(characters_of(word));
  ids.insert(ids.end(), joined.begin(), joined.end());
}

}  // namespace facet
