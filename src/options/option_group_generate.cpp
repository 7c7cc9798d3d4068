// The options of group "Generation" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

void add_generate_options(std::vector<OptionField>& t) {
  const auto generate = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kGenerate, "g", kNotOfTraining, help);
  };
  const auto named = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kGenerate, "gc", kNotOfTraining, help);
  };
  // How answers are found; of --sample_prompts too.
  const auto answering = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kGenerate, "gtc", kMayChange, help);
  };
  t.push_back(named("checkpoint_names", &O::checkpoint_names,
                    "answer with each of these models in turn, into one file (facet chat: with "
                    "one): checkpoints, runs (their newest one), exports, adapters, whole LLaVA "
                    "1.5 models, or directories with a pytorch_model.bin of DeepSpeed-VisualChat. "
                    "What such a directory says of the model stands. The two models of "
                    "--*_model_name_or_path are then needed for an adapter and a "
                    "pytorch_model.bin only, and for a checkpoint whose models have moved"));
  t.push_back(named("checkpoint_path", &O::checkpoint_path,
                    "directory that holds --checkpoint_names; without it they are paths")
                  .directory());
  t.push_back(
      generate("input", &O::input,
               "JSON {test: [[question, \"path path\"?], ...]}: image paths separated by "
               "blanks, or a list of paths; the questions of a test are the rounds of one "
               "conversation. Objects {\"question\", \"images\", \"answers\"} bring the right "
               "answers too, and OUTPUT.metrics.json says how good the model's are")
          .required("g")
          .file());
  t.push_back(generate("output", &O::output,
                       "CSV: test_name,image_path,question,answer; named *.jsonl: JSON Lines with "
                       "tokens, seconds and the reason for each answer's end too. A call that was "
                       "killed goes on where it was when it is given again")
                  .required("g")
                  .new_file());
  t.push_back(generate("csv", &O::csv,
                       "original: as batch_generation.py of DeepSpeed-VisualChat writes it, lines "
                       "end in CR LF and questions without an image stand in image_path too")
                  .one_of({"facet", "original"}));
  t.push_back(generate("compat_tool", &O::compat_tool,
                       "with --compat visualchat: the tool of DeepSpeed-VisualChat whose prompts "
                       "are asked, batch (batch_generation.py) or chat (chat.py), which number the "
                       "images of a round differently; auto: batch")
                  .one_of({"auto", "batch", "chat"}));
  t.push_back(answering("max_new_tokens", &O::max_new_tokens, "longest answer in tokens")
                  .in(1, 1 << 24)
                  .usually_given("gc"));
  t.push_back(answering("temperature", &O::temperature,
                        "0: always the most likely token; above 0: sample, more evenly the higher "
                        "it is")
                  .in(0, 1e3));
  t.push_back(answering("top_k", &O::top_k, "sample from the k most likely tokens; 0: from all")
                  .in(0, 1 << 24));
  t.push_back(answering("top_p", &O::top_p,
                        "sample from the most likely tokens that together reach this probability")
                  .in(0, 1));
  t.push_back(answering("repetition_penalty", &O::repetition_penalty,
                        "positive logits of tokens that stand in the conversation are divided by "
                        "it, negative ones multiplied; 1: none")
                  .in(0.01, 100));
  t.push_back(answering("stop_strings", &O::stop_strings,
                        "an answer ends before the first of these texts, besides at the end tokens "
                        "of the model's files"));
  t.push_back(
      generate("num_answers", &O::num_answers, "answers to each test, with draws of their own")
          .in(1, 1 << 20));
  t.push_back(
      generate("decode_batch", &O::decode_batch,
               "conversations answered at the same time, a token of each in one pass; 0: 8, "
               "or as many of them as there is memory for; 1: each by itself. Choices "
               "(--score) are scored one conversation after the other")
          .in(0, 256));
  t.push_back(generate("logprobs", &O::logprobs,
                       "the log-probability of each token of an answer, in JSON Lines"));
  t.push_back(generate("score", &O::score,
                       "answers nothing, but says of given answers, a list behind the images of "
                       "each question, how likely each is; the likeliest is the answer"));
  t.push_back(field("inference_tp_size", &O::inference_tp_size, Group::kGenerate, "gct", kMayChange,
                    "so many consecutive ranks hold the language model together, cut by heads "
                    "and columns, and answer together: for models that are too large for one. "
                    "facet chat: the number of all ranks. With --sample_prompts they copy their "
                    "parts before each round of questions")
                  .in(1, 1 << 20));
}

}  // namespace facet
