#include "chat/answer_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <unordered_map>

#include "chat/answer_words.h"

namespace facet {

double exact_match(const JudgedAnswer& judged) {
  const std::string answer = plain_words(judged.answer);
  return std::any_of(judged.right.begin(), judged.right.end(),
                     [&](const std::string& right) { return plain_words(right) == answer; })
             ? 1
             : 0;
}

double contains_right(const JudgedAnswer& judged) {
  const std::string answer = ' ' + plain_words(judged.answer) + ' ';
  return std::any_of(judged.right.begin(), judged.right.end(),
                     [&](const std::string& right) {
                       const std::string words = plain_words(right);
                       return !words.empty() && answer.find(' ' + words + ' ') != std::string::npos;
                     })
             ? 1
             : 0;
}

double vqa_accuracy(const JudgedAnswer& judged) {
  const std::string answer = vqa_words(judged.answer);
  const auto people = static_cast<int64_t>(judged.right.size());
  const int64_t same =
      std::count_if(judged.right.begin(), judged.right.end(),
                    [&](const std::string& right) { return vqa_words(right) == answer; });
  // Without one of those who gave this answer, without one of the others.
  const auto counted = [](int64_t matches) {
    return std::min(1.0, static_cast<double>(matches) / 3);
  };
  const double sum = static_cast<double>(same) * counted(same - 1) +
                     static_cast<double>(people - same) * counted(same);
  return sum / static_cast<double>(people);
}

// ---- n-grams

namespace {

constexpr size_t kLongest = 4;

// The numbers of 1 to kLongest words, then zeros.
using NGram = std::array<uint32_t, kLongest>;
// Ascending, each n-gram once.
using Counts = std::vector<std::pair<NGram, int64_t>>;

// The length of an n-gram less one.
size_t order_of(const NGram& ngram) {
  size_t order = 0;
  while (order + 1 < kLongest && ngram[order + 1] != 0) ++order;
  return order;
}

Counts counted(std::vector<NGram> ngrams) {
  std::sort(ngrams.begin(), ngrams.end());
  Counts counts;
  for (const NGram& ngram : ngrams) {
    if (counts.empty() || counts.back().first != ngram) counts.emplace_back(ngram, 0);
    ++counts.back().second;
  }
  return counts;
}

// What is found under an n-gram in an ascending list, or nullptr.
template <typename Value>
const Value* find(const std::vector<std::pair<NGram, Value>>& list, const NGram& ngram) {
  const auto found =
      std::lower_bound(list.begin(), list.end(), ngram,
                       [](const auto& entry, const NGram& sought) { return entry.first < sought; });
  return found != list.end() && found->first == ngram ? &found->second : nullptr;
}

struct Caption {
  int64_t length = 0;  // words
  Counts counts;
};

struct CaptionPair {
  Caption answer;
  std::vector<Caption> right;
  bool repeated = false;
};

// Gives the words of all captions numbers from 1 on.
class CaptionReader {
 public:
  CaptionPair read(const JudgedAnswer& judged) {
    CaptionPair pair{caption_of(judged.answer), {}, judged.repeated};
    for (const std::string& right : judged.right) pair.right.push_back(caption_of(right));
    return pair;
  }

 private:
  Caption caption_of(const std::string& text) {
    std::vector<uint32_t> words;
    for (const std::string& word : caption_words(text))
      words.push_back(
          numbers_.emplace(word, static_cast<uint32_t>(numbers_.size()) + 1).first->second);
    std::vector<NGram> ngrams;
    for (size_t begin = 0; begin < words.size(); ++begin) {
      NGram ngram{};
      for (size_t n = 0; n < kLongest && begin + n < words.size(); ++n) {
        ngram[n] = words[begin + n];
        ngrams.push_back(ngram);
      }
    }
    return {static_cast<int64_t>(words.size()), counted(std::move(ngrams))};
  }

  std::unordered_map<std::string, uint32_t> numbers_;
};

std::vector<CaptionPair> captions_of(std::span<const JudgedAnswer> judged) {
  CaptionReader reader;
  std::vector<CaptionPair> pairs;
  for (const JudgedAnswer& one : judged) pairs.push_back(reader.read(one));
  return pairs;
}

// What BLEU sums over the answers, by the length of the n-gram less one.
struct BleuSums {
  std::vector<int64_t> matched, proposed;
  int64_t length = 0, right_length = 0;
};

int64_t closest_length(const CaptionPair& pair) {
  const auto closer = [&](const Caption& a, const Caption& b) {
    return std::pair(std::abs(a.length - pair.answer.length), a.length) <
           std::pair(std::abs(b.length - pair.answer.length), b.length);
  };
  return std::min_element(pair.right.begin(), pair.right.end(), closer)->length;
}

void add(BleuSums& sums, const CaptionPair& pair) {
  for (const auto& [ngram, count] : pair.answer.counts) {
    int64_t most = 0;
    for (const Caption& right : pair.right)
      if (const int64_t* const there = find(right.counts, ngram)) most = std::max(most, *there);
    sums.matched[order_of(ngram)] += std::min(count, most);
    sums.proposed[order_of(ngram)] += count;
  }
  sums.length += pair.answer.length;
  sums.right_length += closest_length(pair);
}

}  // namespace

std::vector<double> bleu(std::span<const JudgedAnswer> judged, int most) {
  BleuSums sums{std::vector<int64_t>(kLongest), std::vector<int64_t>(kLongest)};
  for (const CaptionPair& pair : captions_of(judged)) add(sums, pair);
  const double brevity =
      sums.length == 0 ? 0
      : sums.length >= sums.right_length
          ? 1
          : std::exp(1 - static_cast<double>(sums.right_length) / static_cast<double>(sums.length));
  std::vector<double> scores;
  double product = 1;
  for (int n = 1; n <= most; ++n) {
    const auto i = static_cast<size_t>(n - 1);
    product *= sums.proposed[i] == 0
                   ? 0
                   : static_cast<double>(sums.matched[i]) / static_cast<double>(sums.proposed[i]);
    scores.push_back(brevity * std::pow(product, 1.0 / n));
  }
  return scores;
}

// ---- CIDEr-D

namespace {

// How many questions' right answers have the n-gram.
Counts document_frequencies(const std::vector<CaptionPair>& pairs) {
  std::vector<NGram> all, here;
  for (const CaptionPair& pair : pairs) {
    if (pair.repeated) continue;
    here.clear();
    for (const Caption& right : pair.right)
      for (const auto& [ngram, count] : right.counts) here.push_back(ngram);
    std::sort(here.begin(), here.end());
    all.insert(all.end(), here.begin(), std::unique(here.begin(), here.end()));
  }
  return counted(std::move(all));
}

int64_t count_questions(const std::vector<CaptionPair>& pairs) {
  return std::count_if(pairs.begin(), pairs.end(),
                       [](const CaptionPair& pair) { return !pair.repeated; });
}

// Weights of n-grams by term frequency and inverse document frequency, ascending by n-gram.
struct WeightedCaption {
  std::vector<std::pair<NGram, double>> weights;
  double norms[kLongest] = {};
  int64_t length = 0;  // of the caption in pairs of words
};

class Cider {
 public:
  explicit Cider(const std::vector<CaptionPair>& pairs)
      : frequencies_(document_frequencies(pairs)),
        log_documents_(std::log(static_cast<double>(count_questions(pairs)))) {}

  double score(const CaptionPair& pair) const {
    const WeightedCaption answer = weighted(pair.answer);
    double sum = 0;
    for (const Caption& right : pair.right) sum += similarity(answer, weighted(right));
    return 10 * sum / static_cast<double>(pair.right.size());
  }

 private:
  WeightedCaption weighted(const Caption& caption) const;
  static double similarity(const WeightedCaption& answer, const WeightedCaption& right);

  Counts frequencies_;
  double log_documents_;
};

WeightedCaption Cider::weighted(const Caption& caption) const {
  WeightedCaption weighted;
  for (const auto& [ngram, count] : caption.counts) {
    const int64_t* const found = find(frequencies_, ngram);
    const double frequency = found == nullptr ? 1 : static_cast<double>(*found);
    const double weight = static_cast<double>(count) * (log_documents_ - std::log(frequency));
    weighted.weights.emplace_back(ngram, weight);
    weighted.norms[order_of(ngram)] += weight * weight;
    if (order_of(ngram) == 1) weighted.length += count;
  }
  for (double& norm : weighted.norms) norm = std::sqrt(norm);
  return weighted;
}

// Cosines of the clipped weights, less for another length; the mean over the n.
double Cider::similarity(const WeightedCaption& answer, const WeightedCaption& right) {
  constexpr double kSigma = 6;
  double products[kLongest] = {};
  for (const auto& [ngram, weight] : answer.weights)
    if (const double* const there = find(right.weights, ngram))
      products[order_of(ngram)] += std::min(weight, *there) * *there;
  double sum = 0;
  for (size_t i = 0; i < kLongest; ++i)
    if (const double norms = answer.norms[i] * right.norms[i]; norms > 0)
      sum += products[i] / norms;
  const auto longer = static_cast<double>(answer.length - right.length);
  return sum / double{kLongest} * std::exp(-longer * longer / (2 * kSigma * kSigma));
}

}  // namespace

double cider(std::span<const JudgedAnswer> judged) {
  const std::vector<CaptionPair> pairs = captions_of(judged);
  const Cider scorer(pairs);
  double sum = 0;
  for (const CaptionPair& pair : pairs) sum += scorer.score(pair);
  return sum / static_cast<double>(pairs.size());
}

// ---- all of them

std::vector<std::pair<std::string, double>> answer_metrics(std::span<const JudgedAnswer> judged) {
  const auto mean = [&](double (*metric)(const JudgedAnswer&)) {
    double sum = 0;
    for (const JudgedAnswer& one : judged) sum += metric(one);
    return sum / static_cast<double>(judged.size());
  };
  std::vector<std::pair<std::string, double>> metrics = {{"exact_match", mean(exact_match)},
                                                         {"contains", mean(contains_right)}};
  if (std::all_of(judged.begin(), judged.end(),
                  [](const JudgedAnswer& one) { return one.right.size() >= kFewestVqaAnswers; }))
    metrics.emplace_back("vqa_accuracy", mean(vqa_accuracy));
  int n = 0;
  for (const double score : bleu(judged)) metrics.emplace_back(fmt::format("bleu_{}", ++n), score);
  metrics.emplace_back("cider", cider(judged));
  return metrics;
}

}  // namespace facet
