#include "chat/generate.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/timer.h"
#include "chat/answer_journal.h"
#include "chat/conversation.h"
#include "chat/conversation_batch.h"
#include "chat/sampling.h"
#include "checkpoint/adapter.h"
#include "checkpoint/weight_origins.h"
#include "io/file.h"
#include "io/hash.h"
#include "io/input_file.h"
#include "io/json.h"
#include "options/option_table.h"
#include "train/compute_device.h"
#include "train/data_setup.h"
#include "train/measured_pass.h"
#include "train/progress_bar.h"
#include "train/progress_hooks.h"

namespace facet {

namespace {

// How many conversations are held at the same time where the user does not say it.
constexpr int64_t kUsualBatch = 8;

// The arena bytes that conversations need, by what runs the largest they can run into.
PassMemory measure_conversations(DType dtype, const std::function<void(Context&)>& run_largest) {
  UnitHooks hooks;
  PassMemory memory = measure({hooks, dtype}, run_largest);
  // Arena allocations are rounded up to 64 bytes, by other amounts for shorter prompts.
  memory.activations += memory.activations / 64 + (1 << 20);
  if (memory.panels > 0) memory.panels += memory.panels / 64 + 4096;
  return memory;
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

// The regular files that the model is read from, by name.
std::vector<std::string> model_files(const PretrainedSources& sources) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code error;
  std::vector<std::string> directories = {sources.lm_directory, sources.vision_directory};
  if (!sources.adapter.empty()) {
    const Adapter adapter = read_adapter(sources.adapter);
    for (const std::optional<AdapterPart>& part : {adapter.lang, adapter.vision})
      if (part) directories.push_back(part->directory);
    if (!adapter.other_file.empty()) files.push_back(adapter.other_file);
  }
  for (const std::string& directory : directories)
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
      if (entry.is_regular_file(error)) files.push_back(entry.path().string());
  if (const std::string file = projection_file_of(sources); !file.empty()) files.push_back(file);
  std::sort(files.begin(), files.end());
  return files;
}

// Shows on rank 0 how far the answers are, by its own share of them: on a terminal a bar, elsewhere
// a line a minute.
class AnswerConsole {
 public:
  AnswerConsole(int64_t conversations, const Communicator& world)
      : conversations_(conversations), shows_(world.rank() == 0) {}

  void show(int64_t done) {
    if (!shows_) return;
    const double left = since_start_.seconds() / static_cast<double>(done) *
                        static_cast<double>(conversations_ - done);
    const std::string text = fmt::format("{} of this rank's {} conversations, {} left", done,
                                         conversations_, clock_text(left));
    if (bar_.on_terminal()) return bar_.show(done, conversations_, text);
    if (since_line_.seconds() < 60) return;
    since_line_.restart();
    log_line(text);
  }

 private:
  int64_t conversations_;
  bool shows_;
  Timer since_start_, since_line_;
  ProgressBar bar_;
};

// "--stop_strings a b" and "a b" are not the same.
std::string quoted_words(const OptionField& field, const Options& options) {
  std::vector<std::string> words = option_words(field, options);
  for (std::string& word : words) word = json_string(word);
  return fmt::format("{}", fmt::join(words, " "));
}

// What answers depend on, a line each: the options, the questions and the system prompt, and the
// model's files by size and time.
std::string identity_of(const Options& options) {
  const std::set<std::string_view> without_effect = {
      "output", "csv", "config", "threads", "decode_batch", "device_collectives"};
  std::string text;
  for (const OptionField& field : option_table())
    if (field.known_to(Command::kGenerate) && !without_effect.contains(field.name) &&
        !std::string_view(field.name).starts_with("hang_"))
      text += fmt::format("{} = {}\n", field.name, quoted_words(field, options));
  for (const std::string& path : {options.input, options.system_prompt_file}) {
    if (path.empty()) continue;
    const std::string content = read_file(path, JsonDocument::kMaxDataBytes);
    text += fmt::format("content of {}: {}\n", path,
                        hash_of(content.data(), static_cast<int64_t>(content.size())));
  }
  for (const std::string& path : model_files(sources_of(options))) {
    const InputFile file(path);
    text += fmt::format("{} of {} bytes, changed {}\n", path, file.bytes(), file.modified());
  }
  return text;
}

// A test, by its index, and the number of the answer to it.
using Task = std::pair<int64_t, int64_t>;

class Generation {
 public:
  Generation(MpiSession& session, const Options& options)
      : world_(session.world()), options_(options), host_(session.host()) {}

  void run();

 private:
  void open_model();
  void deal_out(const std::vector<AnsweredTest>& finished);
  std::vector<const GenerationTest*> my_tests() const;
  PassMemory measure_scoring();
  PassMemory measure_batch(int64_t most);
  void take_memory();
  ChooseToken chooser(const Task& task) const;
  void score_mine(Context& context, const std::function<void(AnsweredTest)>& finished);
  void hold_mine(Context& context, const std::function<void(AnsweredTest)>& finished);
  std::string answer_mine(const AnswerJournal& journal);
  std::vector<AnsweredTest> answer_all(const AnswerJournal& journal);
  void report(const std::vector<AnsweredTest>& answers) const;

  Communicator& world_;
  const Options& options_;
  const std::string& host_;
  std::optional<ComputeDevice> device_;
  std::optional<Arena> arena_;
  std::vector<GenerationTest> tests_;
  std::unique_ptr<ModelSetup> model_;
  std::unique_ptr<PromptBuilder> prompt_;
  std::unique_ptr<RoundPieces> pieces_;
  std::optional<ConversationBatch> batch_;  // without --score
  std::vector<Task> mine_;                  // conversations of this rank
  int64_t left_ = 0;                        // conversations of all ranks
};

void Generation::open_model() {
  tests_ = read_generation_tests(options_.input,
                                 options_.score ? QuestionForm::kWithChoices : QuestionForm::kOpen);
  check_images(tests_);
  model_ = declare_model(options_);
  model_->chat_template = chat_template_as_trained(options_);
  load_weights_as_trained(options_, *model_, world_, device_->plain());
  prompt_ = make_prompt_builder(options_, *model_);
  pieces_ = std::make_unique<RoundPieces>(
      *model_, *prompt_,
      ConversationRules{options_.max_new_tokens, options_.max_seq_len, options_.max_image_pixels,
                        options_.stop_strings, options_.logprobs, options_.score});
}

// What earlier starts have not finished, in turn to the ranks.
void Generation::deal_out(const std::vector<AnsweredTest>& finished) {
  std::set<Task> done;
  for (const AnsweredTest& answered : finished) {
    CHECK(answered.number >= 0 && answered.number < options_.num_answers &&
              is_answer_to(tests_, answered),
          ExitCode::kBadData,
          "{}.unfinished: test {}, answer {} belongs to no question of --input: a file there has "
          "been changed; remove the directory to begin anew",
          options_.output, answered.test, answered.number);
    done.emplace(answered.test, answered.number);
  }
  for (int64_t test = 0; test < static_cast<int64_t>(tests_.size()); ++test)
    for (int64_t number = 0; number < options_.num_answers; ++number)
      if (!done.contains({test, number}) && left_++ % world_.size() == world_.rank())
        mine_.emplace_back(test, number);
  if (!done.empty())
    log("{} of {} conversations were finished before", done.size(),
        static_cast<int64_t>(done.size()) + left_);
}

// Each test that this rank answers, once.
std::vector<const GenerationTest*> Generation::my_tests() const {
  std::set<const GenerationTest*> mine;
  for (const auto& [test, number] : mine_) mine.insert(&tests_[static_cast<size_t>(test)]);
  return {mine.begin(), mine.end()};
}

PassMemory Generation::measure_scoring() {
  return measure_conversations(compute_dtype(options_), [&](Context& context) {
    Conversation conversation(*pieces_);
    for (const GenerationTest* test : my_tests())
      naming(*test, [&] { conversation.run_largest_pieces(context, *test); });
  });
}

PassMemory Generation::measure_batch(int64_t most) {
  std::map<int64_t, int64_t> capacity_of;  // by test
  std::vector<int64_t> capacities;
  for (const auto& [index, number] : mine_) {
    const GenerationTest& test = tests_[static_cast<size_t>(index)];
    int64_t& capacity = capacity_of[index];
    if (capacity == 0) naming(test, [&] { capacity = pieces_->capacity(test); });
    capacities.push_back(capacity);
  }
  batch_.emplace(*pieces_, std::move(capacities), most);
  return measure_conversations(compute_dtype(options_), [&](Context& context) {
    batch_->run_largest_forwards(context, my_tests());
  });
}

// Where the user leaves it open, as many conversations at the same time as there is memory for.
void Generation::take_memory() {
  const bool chooses = options_.decode_batch == 0 && !options_.score;
  for (int64_t most = chooses ? kUsualBatch : options_.decode_batch;; most /= 2) {
    const PassMemory memory = options_.score ? measure_scoring() : measure_batch(most);
    try {
      arena_.emplace("conversations", memory.activations, device_->memory());
    } catch (const Error& error) {
      if (most <= 1) throw;
      if (!chooses) fail(error.code(), "{}, or --decode_batch {}", error.what(), most);
      continue;
    }
    return device_->allocate_panels(memory.panels);
  }
}

// Draws depend on the seed, the test's name, the round and the number of the answer: neither on the
// other tests nor on the ranks.
ChooseToken Generation::chooser(const Task& task) const {
  struct Draws {
    Sampler sampler;
    std::vector<RandomStream> of_round;
  };
  const auto [index, number] = task;
  const GenerationTest& test = tests_[static_cast<size_t>(index)];
  auto draws = std::make_shared<Draws>(Draws{
      Sampler({options_.temperature, options_.top_k, options_.top_p, options_.repetition_penalty}),
      {}});
  for (size_t round = 0; round < test.rounds.size(); ++round)
    draws->of_round.emplace_back(
        static_cast<uint64_t>(options_.seed), "generate", hash_name(test.name),
        static_cast<uint64_t>(number) << 32 | static_cast<uint64_t>(round));
  return [draws](int64_t round, std::span<const float> logits, std::span<const int32_t> said) {
    return draws->sampler.pick(logits, said, draws->of_round[static_cast<size_t>(round)]);
  };
}

void Generation::score_mine(Context& context, const std::function<void(AnsweredTest)>& finished) {
  Conversation conversation(*pieces_);
  for (const auto& [test, number] : mine_)
    finished({test, number, conversation.scores(context, tests_[static_cast<size_t>(test)])});
}

void Generation::hold_mine(Context& context, const std::function<void(AnsweredTest)>& finished) {
  size_t started = 0;
  const auto next = [&]() -> std::optional<ConversationBatch::Start> {
    if (started == mine_.size()) return {};
    const Task& task = mine_[started];
    return ConversationBatch::Start{static_cast<int64_t>(started++),
                                    &tests_[static_cast<size_t>(task.first)], chooser(task)};
  };
  batch_->hold(context, next, [&](int64_t place, std::vector<Answer> answers) {
    const auto& [test, number] = mine_[static_cast<size_t>(place)];
    finished({test, number, std::move(answers)});
  });
}

// Lines of the journal.
std::string Generation::answer_mine(const AnswerJournal& journal) {
  ProgressHooks hooks;
  Context context{device_->layers(), *arena_, hooks, compute_dtype(options_)};
  std::string lines;
  AnswerConsole console(static_cast<int64_t>(mine_.size()), world_);
  int64_t done = 0;
  const auto finished = [&](const AnsweredTest& now) {
    journal.append(now);
    lines += line_of(now);
    console.show(++done);
  };
  if (options_.score)
    score_mine(context, finished);
  else
    hold_mine(context, finished);
  return lines;
}

// In the order of the tests and of their answers' numbers.
std::vector<AnsweredTest> Generation::answer_all(const AnswerJournal& journal) {
  std::string mine;
  collectively(world_, [&] { mine = answer_mine(journal); });
  std::vector<AnsweredTest> answers = journal.finished();
  for (const std::string& of_rank : world_.all_gather(mine))
    for (AnsweredTest& answered : answered_tests_of(of_rank, "answers of a rank"))
      answers.push_back(std::move(answered));
  std::sort(answers.begin(), answers.end(), [](const AnsweredTest& a, const AnsweredTest& b) {
    return std::pair(a.test, a.number) < std::pair(b.test, b.number);
  });
  return answers;
}

void Generation::report(const std::vector<AnsweredTest>& answers) const {
  int64_t rounds = 0, empty = 0;
  for (const AnsweredTest& answered : answers)
    for (const Answer& answer : answered.rounds) {
      ++rounds;
      empty += answer.text.empty();
    }
  if (empty > 0)
    warn(
        "{} of {} answers are empty: the model or a stop string ended them at once, or "
        "--max_seq_len {} left no room",
        empty, rounds, options_.max_seq_len);
  log("{} answers to {} tests in {}", rounds, tests_.size(), options_.output);
}

void Generation::run() {
  const AnswerFormat format = answer_format(options_.output, options_.csv);
  collectively(world_, [&] { check_paths(Command::kGenerate, options_); });
  device_.emplace(open_compute_device(options_, world_, host_));
  collectively(world_, [&] { open_model(); });
  std::string identity;
  collectively(world_, [&] {
    if (world_.rank() == 0) identity = identity_of(options_);
  });
  AnswerJournal journal(options_.output, identity, world_);
  collectively(world_, [&] {
    deal_out(journal.finished());
    take_memory();
  });
  begin_section(Section::kCompute);
  const std::vector<AnsweredTest> answers = answer_all(journal);
  begin_section(Section::kSave);
  collectively(world_, [&] {
    if (world_.rank() != 0) return;
    write_answers(options_.output, format, tests_, answers);
    journal.remove();
  });
  report(answers);
}

}  // namespace

void generate(MpiSession& session, const Options& options) { Generation(session, options).run(); }

}  // namespace facet
