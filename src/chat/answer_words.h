// How the metrics of answers (chat/answer_metrics.h) see a text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace facet {

// For exact match: lower case, without ASCII punctuation and the articles a, an, the, one blank
// between words (Rajpurkar et al., "SQuAD", 2016). Unlike there a text of articles alone keeps
// them: the letter A of a multiple choice is not an empty answer.
std::string plain_words(std::string_view text);

// For the accuracy of VQA, as its evaluation server prepares answers, given and right (Antol et
// al., "VQA", 2015): punctuation becomes a blank or nothing, numbers up to ten become digits,
// contractions get their apostrophe back, articles go.
std::string vqa_words(std::string_view answer);

// For BLEU and CIDEr: the tokens of the Penn Treebank in lower case ("isn't" is "is", "n't"),
// without punctuation, as the evaluation server of COCO cuts captions (Chen et al., "Microsoft COCO
// Captions", 2015).
std::vector<std::string> caption_words(std::string_view text);

}  // namespace facet
