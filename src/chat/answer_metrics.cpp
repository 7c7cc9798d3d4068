#include "chat/answer_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>

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

constexpr int kLongest = 4;

using NGram = std::vector<std::string>;
using Counts = std::map<NGram, int64_t>;

// Of all n-grams of 1 to kLongest words.
Counts ngrams(const std::vector<std::string>& words) {
  Counts counts;
  const auto num_words = static_cast<int64_t>(words.size());
  for (int64_t n = 1; n <= kLongest; ++n)
    for (int64_t begin = 0; begin + n <= num_words; ++begin)
      ++counts[NGram(words.begin() + begin, words.begin() + begin + n)];
  return counts;
}

struct Caption {
  int64_t length = 0;  // words
  Counts counts;
};

Caption caption_of(const std::string& text) {
  const std::vector<std::string> words = caption_words(text);
  return {static_cast<int64_t>(words.size()), ngrams(words)};
}

struct CaptionPair {
  Caption answer;
  std::vector<Caption> right;
};

std::vector<CaptionPair> captions_of(std::span<const JudgedAnswer> judged) {
  std::vector<CaptionPair> pairs;
  for (const JudgedAnswer& one : judged) {
    CaptionPair& pair = pairs.emplace_back();
    pair.answer = caption_of(one.answer);
    for (const std::string& right : one.right) pair.right.push_back(caption_of(right));
  }
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
      if (const auto found = right.counts.find(ngram); found != right.counts.end())
        most = std::max(most, found->second);
    sums.matched[ngram.size() - 1] += std::min(count, most);
    sums.proposed[ngram.size() - 1] += count;
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
  Counts frequencies;
  for (const CaptionPair& pair : pairs) {
    std::set<NGram> here;
    for (const Caption& right : pair.right)
      for (const auto& [ngram, count] : right.counts) here.insert(ngram);
    for (const NGram& ngram : here) ++frequencies[ngram];
  }
  return frequencies;
}

// Weights of n-grams by term frequency and inverse document frequency.
struct WeightedCaption {
  std::map<NGram, double> weights;
  double norms[kLongest] = {};
  int64_t length = 0;  // of the caption in pairs of words
};

class Cider {
 public:
  explicit Cider(const std::vector<CaptionPair>& pairs)
      : frequencies_(document_frequencies(pairs)),
        log_documents_(std::log(static_cast<double>(pairs.size()))) {}

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
    const auto found = frequencies_.find(ngram);
    const double frequency = found == frequencies_.end() ? 1 : static_cast<double>(found->second);
    const double weight = static_cast<double>(count) * (log_documents_ - std::log(frequency));
    weighted.weights.emplace(ngram, weight);
    weighted.norms[ngram.size() - 1] += weight * weight;
    if (ngram.size() == 2) weighted.length += count;
  }
  for (double& norm : weighted.norms) norm = std::sqrt(norm);
  return weighted;
}

// Cosines of the clipped weights, less for another length; the mean over the n.
double Cider::similarity(const WeightedCaption& answer, const WeightedCaption& right) {
  constexpr double kSigma = 6;
  double products[kLongest] = {};
  for (const auto& [ngram, weight] : answer.weights)
    if (const auto found = right.weights.find(ngram); found != right.weights.end())
      products[ngram.size() - 1] += std::min(weight, found->second) * found->second;
  double sum = 0;
  for (int i = 0; i < kLongest; ++i)
    if (const double norms = answer.norms[i] * right.norms[i]; norms > 0)
      sum += products[i] / norms;
  const auto longer = static_cast<double>(answer.length - right.length);
  return sum / kLongest * std::exp(-longer * longer / (2 * kSigma * kSigma));
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
