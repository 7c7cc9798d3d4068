// How good answers are where the right ones are known.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace facet {

// An answer and the right ones to its question, one at least.
struct JudgedAnswer {
  std::string answer;
  std::vector<std::string> right;
  bool repeated = false;  // there is another answer to the same question that is not
};

// 1 if the answer is one of the right ones, after plain_words() of both; else 0.
double exact_match(const JudgedAnswer& judged);
// 1 if the words of a right answer stand in the answer one after the other, after plain_words();
// else 0.
double contains_right(const JudgedAnswer& judged);
// The right answers are those of people: an answer that three of them gave counts 1, one of two or
// one 2/3 or 1/3, averaged over leaving each of the people out (Antol et al., "VQA", 2015; with
// ten answers the accuracy of its evaluation server). Both sides are prepared by vqa_words(), also
// where all people agree, which the server's program leaves out. From 0 to 1.
double vqa_accuracy(const JudgedAnswer& judged);
// With fewer right answers no answer can count 1.
constexpr size_t kFewestVqaAnswers = 4;

// BLEU-1 to BLEU-`most` of all answers together (Papineni et al., "BLEU", 2002; the length of the
// closest right answer, of two as close the shorter). From 0 to 1.
std::vector<double> bleu(std::span<const JudgedAnswer> judged, int most = 4);
// CIDEr-D (Vedantam et al., "CIDEr", 2015; sigma 6, n-grams up to 4), the mean over the answers,
// each question's right answers being one document, however often it is answered. From 0 to 10; 0
// if there is one question only.
double cider(std::span<const JudgedAnswer> judged);

// "exact_match", "contains", "vqa_accuracy" (if every question has enough right answers),
// "bleu_1" ... "bleu_4", "cider", in this order. At least one answer.
std::vector<std::pair<std::string, double>> answer_metrics(std::span<const JudgedAnswer> judged);

}  // namespace facet
