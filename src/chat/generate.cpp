#include "chat/generate.h"

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "chat/conversation.h"
#include "chat/sampling.h"
#include "train/compute_device.h"
#include "train/data_setup.h"
#include "train/measured_pass.h"
#include "train/progress_hooks.h"

namespace facet {

namespace {

// The arena bytes that the conversations of this rank need.
PassMemory measure_conversations(Conversation& conversation,
                                 const std::vector<GenerationTest>& tests, DType dtype,
                                 int64_t rank, int64_t ranks) {
  UnitHooks hooks;
  PassMemory memory = measure({hooks, dtype}, [&](Context& context) {
    for (size_t t = static_cast<size_t>(rank); t < tests.size(); t += static_cast<size_t>(ranks))
      conversation.run_largest_pieces(context, tests[t]);
  });
  // Arena allocations are rounded up to 64 bytes, by other amounts for shorter prompts.
  memory.activations += memory.activations / 64 + (1 << 20);
  if (memory.panels > 0) memory.panels += memory.panels / 64 + 4096;
  return memory;
}

// Packs texts of any content into one, and back: "5:hello0:".
std::string packed(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += fmt::format("{}:{}", text.size(), text);
  return all;
}
std::vector<std::string> unpacked(const std::string& all) {
  std::vector<std::string> texts;
  for (size_t at = 0; at < all.size();) {
    const size_t colon = all.find(':', at);
    const size_t length = std::stoull(all.substr(at, colon - at));
    texts.push_back(all.substr(colon + 1, length));
    at = colon + 1 + length;
  }
  return texts;
}

// Checks that all images exist before the first answer is generated.
void check_images(const std::vector<GenerationTest>& tests) {
  std::string missing;
  for (const GenerationTest& test : tests)
    for (const GenerationRound& round : test.rounds)
      for (const std::string& image : round.images)
        if (std::error_code error; !std::filesystem::is_regular_file(image, error))
          missing += fmt::format("\n  {} (test {})", image, test.name);
  CHECK(missing.empty(), ExitCode::kMissingInput,
        "images named by the questions are not there, or no regular files:{}", missing);
}

class Generation {
 public:
  Generation(MpiSession& session, const Options& options)
      : world_(session.world()), options_(options), host_(session.host()) {}

  void run();

 private:
  void open();
  std::vector<std::string> answers_to(size_t test);
  std::vector<std::vector<std::string>> answer_all();

  Communicator& world_;
  const Options& options_;
  const std::string& host_;
  std::optional<ComputeDevice> device_;
  std::optional<Arena> arena_;
  std::vector<GenerationTest> tests_;
  std::unique_ptr<ModelSetup> model_;
  std::unique_ptr<PromptBuilder> prompt_;
  std::unique_ptr<Conversation> conversation_;
};

void Generation::open() {
  tests_ = read_generation_tests(options_.input);
  check_images(tests_);
  model_ = declare_model(options_);
  model_->chat_template = chat_template_as_trained(options_);
  load_weights_as_trained(options_, *model_, world_, device_->plain());
  prompt_ = make_prompt_builder(options_, *model_);
  conversation_ = std::make_unique<Conversation>(
      *model_, *prompt_,
      ConversationLimits{options_.max_new_tokens, options_.max_seq_len, options_.max_image_pixels});
  const PassMemory memory = measure_conversations(*conversation_, tests_, compute_dtype(options_),
                                                  world_.rank(), world_.size());
  arena_.emplace("conversation", memory.activations, device_->memory());
  device_->allocate_panels(memory.panels);
}

std::vector<std::string> Generation::answers_to(size_t test) {
  ProgressHooks hooks;
  Context context{device_->layers(), *arena_, hooks, compute_dtype(options_)};
  Sampler sampler({options_.temperature, options_.top_k, options_.top_p});
  std::vector<RandomStream> draws;  // one per round
  for (size_t round = 0; round < tests_[test].rounds.size(); ++round)
    draws.emplace_back(static_cast<uint64_t>(options_.seed), "generate", test, round);
  const auto choose = [&](int64_t round, const std::vector<float>& logits) {
    return sampler.pick(logits, draws[static_cast<size_t>(round)]);
  };
  std::vector<std::string> answers = conversation_->answers(context, tests_[test], choose);
  answers.resize(tests_[test].rounds.size());  // missing ones become empty
  return answers;
}

// Test t is answered by rank t % N.
std::vector<std::vector<std::string>> Generation::answer_all() {
  std::vector<std::string> mine;
  const auto ranks = static_cast<size_t>(world_.size());
  collectively(world_, [&] {
    for (size_t t = static_cast<size_t>(world_.rank()); t < tests_.size(); t += ranks)
      for (std::string& answer : answers_to(t)) mine.push_back(std::move(answer));
  });
  std::vector<std::vector<std::string>> of_rank;
  for (const std::string& text : world_.all_gather(packed(mine))) of_rank.push_back(unpacked(text));
  std::vector<size_t> next(ranks);
  std::vector<std::vector<std::string>> answers(tests_.size());
  for (size_t t = 0; t < tests_.size(); ++t)
    for (size_t r = 0; r < tests_[t].rounds.size(); ++r)
      answers[t].push_back(of_rank[t % ranks][next[t % ranks]++]);
  return answers;
}

void Generation::run() {
  collectively(world_, [&] { check_paths(Command::kGenerate, options_); });
  device_.emplace(open_compute_device(options_, world_, host_));
  collectively(world_, [&] { open(); });
  begin_section(Section::kCompute);
  const std::vector<std::vector<std::string>> answers = answer_all();
  int64_t rounds = 0, empty = 0;
  for (const std::vector<std::string>& of_test : answers) {
    rounds += static_cast<int64_t>(of_test.size());
    empty += std::count(of_test.begin(), of_test.end(), "");
  }
  begin_section(Section::kSave);
  collectively(world_, [&] {
    if (world_.rank() == 0) write_answers(options_.output, tests_, answers);
  });
  if (empty > 0)
    warn("{} of {} answers are empty: the model ended at once, or --max_seq_len {} left no room",
         empty, rounds, options_.max_seq_len);
  log("{} answers to {} tests in {}", rounds, tests_.size(), options_.output);
}

}  // namespace

void generate(MpiSession& session, const Options& options) { Generation(session, options).run(); }

}  // namespace facet
