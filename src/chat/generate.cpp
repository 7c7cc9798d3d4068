#include "chat/generate.h"

#include <fmt/format.h>

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
#include "chat/answer_report.h"
#include "chat/answering_models.h"
#include "chat/conversation.h"
#include "chat/conversation_batch.h"
#include "checkpoint/adapter.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/weight_origins.h"
#include "comm/split.h"
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
#include "train/run_costs.h"
#include "train/stored_model.h"
#include "zero/rank_group.h"

namespace facet {

namespace {

// How many conversations are held at the same time where the user does not say it.
constexpr int64_t kUsualBatch = 8;

// The arena bytes that conversations need, by what runs the largest they can run into.
PassMemory measure_conversations(DType dtype, const std::function<void(Context&)>& run_largest) {
  UnitHooks hooks;
  return with_rounding(measure({hooks, dtype}, run_largest));
}

// The regular files that the model is read from, by name.
std::vector<std::string> model_files(const AnsweringModel& model) {
  namespace fs = std::filesystem;
  const PretrainedSources sources =
      sources_of(model.stored ? model.stored->options : model.options);
  std::vector<std::string> files;
  if (model.stored) files.push_back(state_file_of(model.stored->checkpoint));
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
std::string identity_of(const AnsweringModel& model) {
  const Options& options = model.options;
  const std::set<std::string_view> without_effect = {"output",
                                                     "csv",
                                                     "config",
                                                     "threads",
                                                     "device_collectives",
                                                     "checkpoint_names",
                                                     "checkpoint_path",
                                                     "decode_batch"};
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
  for (const std::string& path : model_files(model)) {
    const InputFile file(path);
    text += fmt::format("{} of {} bytes, changed {}\n", path, file.bytes(), file.modified());
  }
  return text;
}

// A test, by its index, and the number of the answer to it.
using Task = std::pair<int64_t, int64_t>;

// The answers of one model.
class Generation {
 public:
  // The arguments must outlive it.
  Generation(Communicator& world, const AnsweringModel& model, ComputeDevice& device,
             const std::vector<GenerationTest>& tests)
      : world_(world), of_(model), options_(model.options), device_(device), tests_(tests) {}

  // Collective. A model whose answers are all in the journal is not loaded.
  std::vector<AnsweredTest> run();
  std::unique_ptr<AnswerJournal> take_journal() { return std::move(journal_); }

 private:
  std::string journal_place() const;
  void open_journal();
  void make_groups();
  void open_model(const StoredModel* stored);
  void deal_out(const std::vector<AnsweredTest>& finished);
  std::vector<const GenerationTest*> my_tests() const;
  PassMemory measure_scoring();
  PassMemory measure_batch(int64_t most);
  void take_memory();
  void score_mine(Context& context, const std::function<void(AnsweredTest)>& finished);
  void hold_mine(Context& context, const std::function<void(AnsweredTest)>& finished);
  std::string answer_mine();
  std::string answer_mine_together();
  std::vector<AnsweredTest> answer_all();

  Communicator& world_;
  const AnsweringModel& of_;
  const Options& options_;  // of that
  ComputeDevice& device_;
  const std::vector<GenerationTest>& tests_;
  std::unique_ptr<AnswerJournal> journal_;
  // Of --inference_tp_size; none where each rank has the whole model.
  std::unique_ptr<Communicator> group_;
  std::optional<RankGroup> shares_;
  std::optional<Arena> arena_;
  std::unique_ptr<ModelSetup> model_;
  std::unique_ptr<PromptBuilder> prompt_;
  std::unique_ptr<RoundPieces> pieces_;
  std::optional<ConversationBatch> batch_;  // without --score
  std::vector<Task> mine_;                  // conversations of this rank, or of its group
  int64_t left_ = 0;                        // conversations of all ranks
};

// Consecutive ranks, which a host has together if it has a multiple of the size.
void Generation::make_groups() {
  const int64_t size = options_.inference_tp_size;
  if (size == 1) return;
  group_ = split(world_, static_cast<int>(world_.rank() / size));
  collectively(world_, [&] {
    try {
      connect(options_, *group_, device_);
    } catch (const CollectiveError& error) {  // which the other groups do not know of
      fail(error.code(), "{}", error.what());
    }
  });
  shares_.emplace(*group_);
}

void Generation::open_model(const StoredModel* stored) {
  model_ = declare_model(options_, MissingTokenizer::kError,
                         group_ ? GroupPlace{group_->rank(), group_->size()} : GroupPlace{});
  if (stored == nullptr) model_->chat_template = chat_template_as_trained(options_);
  load_weights_as_trained(options_, *model_, world_, device_.plain(), stored);
  if (group_)
    log("each {} ranks hold the language model together; of all weights a rank keeps {}",
        group_->size(), bytes_text(model_->table.bytes()));
  prompt_ = make_prompt_builder(options_, *model_);
  pieces_ = std::make_unique<RoundPieces>(
      *model_, *prompt_,
      ConversationRules{
          options_.max_new_tokens, options_.max_seq_len, options_.max_image_pixels,
          options_.stop_strings, options_.logprobs, options_.score,
          options_.compat_tool == "chat" ? ImageNumbers::kInText : ImageNumbers::kCountAtFirst});
}

// What earlier starts have not finished, in turn to the groups of ranks.
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
  const int64_t size = options_.inference_tp_size, groups = world_.size() / size;
  for (int64_t test = 0; test < static_cast<int64_t>(tests_.size()); ++test)
    for (int64_t number = 0; number < options_.num_answers; ++number)
      if (!done.contains({test, number}) && left_++ % groups == world_.rank() / size)
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

// Where the user leaves it open, as many conversations at the same time as there is memory for. The
// ranks of a group, which must hold as many as one another, do not try.
void Generation::take_memory() {
  const bool chooses = options_.decode_batch == 0 && !options_.score && !group_;
  for (int64_t most = options_.decode_batch > 0 ? options_.decode_batch : kUsualBatch;; most /= 2) {
    const PassMemory memory = options_.score ? measure_scoring() : measure_batch(most);
    try {
      arena_.emplace("conversations", memory.activations, device_.memory());
    } catch (const Error& error) {
      if (most <= 1 || options_.score) throw;
      if (!chooses) fail(error.code(), "{}, or --decode_batch {}", error.what(), most);
      continue;
    }
    return device_.allocate_panels(memory.panels);
  }
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
    const auto& [index, number] = mine_[started];
    const GenerationTest& test = tests_[static_cast<size_t>(index)];
    return ConversationBatch::Start{static_cast<int64_t>(started++), &test,
                                    choose_by_draws(options_, test, number)};
  };
  batch_->hold(context, next, [&](int64_t place, std::vector<Answer> answers) {
    const auto& [test, number] = mine_[static_cast<size_t>(place)];
    finished({test, number, std::move(answers)});
  });
}

// Lines of the journal. The ranks of a group have the same answers, and its first one keeps them.
std::string Generation::answer_mine() {
  if (mine_.empty()) return {};  // where all were finished before, there is no model
  ProgressHooks hooks;
  Context context{device_.layers(), *arena_, hooks, compute_dtype(options_)};
  if (shares_) context.group = &*shares_;
  std::string lines;
  const bool keeps = group_ == nullptr || group_->rank() == 0;
  AnswerConsole console(static_cast<int64_t>(mine_.size()), world_);
  int64_t done = 0;
  const auto finished = [&](const AnsweredTest& now) {
    if (keeps) journal_->append(now);
    if (keeps) lines += line_of(now);
    console.show(++done);
  };
  if (options_.score)
    score_mine(context, finished);
  else
    hold_mine(context, finished);
  return lines;
}

// An error of one rank leaves the others of its group waiting: it is no collective one, and ends
// the job at once.
std::string Generation::answer_mine_together() {
  if (group_ != nullptr) return answer_mine();
  std::string mine;
  collectively(world_, [&] { mine = answer_mine(); });
  return mine;
}

// In the order of the tests and of their answers' numbers.
std::vector<AnsweredTest> Generation::answer_all() {
  const std::string mine = answer_mine_together();
  std::vector<AnsweredTest> answers = journal_->finished();
  for (const std::string& of_rank : world_.all_gather(mine))
    for (AnsweredTest& answered : answered_tests_of(of_rank, "answers of a rank"))
      answers.push_back(std::move(answered));
  std::sort(answers.begin(), answers.end(), [](const AnsweredTest& a, const AnsweredTest& b) {
    return std::pair(a.test, a.number) < std::pair(b.test, b.number);
  });
  return answers;
}

// Of several models each has its own, by the end of its name; paths are told apart by a hash.
std::string Generation::journal_place() const {
  const std::string& name = of_.name;
  if (name.empty()) return options_.output;
  const size_t slash = name.find_last_of('/');
  if (slash == std::string::npos) return options_.output + "." + name;
  const std::string hash = hash_of(name.data(), static_cast<int64_t>(name.size()));
  return fmt::format("{}.{}-{}", options_.output, name.substr(slash + 1), hash.substr(0, 8));
}

void Generation::open_journal() {
  std::string identity;
  collectively(world_, [&] {
    if (world_.rank() == 0) identity = identity_of(of_);
  });
  journal_ = std::make_unique<AnswerJournal>(journal_place(), identity, world_);
}

std::vector<AnsweredTest> Generation::run() {
  begin_section(Section::kLoad);
  open_journal();
  make_groups();
  collectively(world_, [&] { deal_out(journal_->finished()); });
  if (left_ > 0) {
    const std::unique_ptr<StoredModel> stored =
        of_.stored ? open_stored_model(*of_.stored, world_) : nullptr;
    collectively(world_, [&] {
      open_model(stored.get());
      take_memory();
    });
  }
  begin_section(Section::kCompute);
  return answer_all();
}

// ---- all models

void warn_of_empty(const Options& options, const std::vector<AnsweredTest>& answers) {
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
        empty, rounds, options.max_seq_len);
}

int64_t count_answers(const std::vector<ModelAnswers>& models) {
  int64_t rounds = 0;
  for (const ModelAnswers& of_model : models)
    for (const AnsweredTest& answered : of_model.answers)
      rounds += static_cast<int64_t>(answered.rounds.size());
  return rounds;
}

// Of rank 0.
void write_metrics(const Options& options, const std::vector<GenerationTest>& tests,
                   const std::vector<ModelAnswers>& models) {
  std::vector<std::pair<std::string, AnswerReport>> reports;
  for (const ModelAnswers& of_model : models)
    if (const std::optional<AnswerReport> report = report_on(tests, of_model.answers)) {
      log("{}{}", of_model.model.empty() ? "" : of_model.model + ": ", report->text());
      reports.emplace_back(of_model.model, *report);
    }
  if (reports.empty()) return remove_reports(options.output);
  write_reports(options.output, reports);
}

}  // namespace

void generate(MpiSession& session, const ParsedOptions& parsed) {
  const Options& options = parsed.options;
  advise_on_memory(kAnswersTakeLess);
  Communicator& world = session.world();
  const AnswerFormat format = answer_format(options.output, options.csv);
  const std::vector<AnsweringModel> models = answering_models(Command::kGenerate, parsed, world);
  std::vector<GenerationTest> tests;
  collectively(world, [&] {
    for (const AnsweringModel& model : models) check_paths(Command::kGenerate, model.options);
    tests = read_generation_tests(options.input,
                                  options.score ? QuestionForm::kWithChoices : QuestionForm::kOpen);
    check_images_are_there(tests);
  });
  ComputeDevice device = open_compute_device(options, world, session.host());
  std::vector<std::unique_ptr<AnswerJournal>> journals;
  std::vector<ModelAnswers> answers;
  for (const AnsweringModel& model : models) {
    if (!model.name.empty()) log("answering with {}", model.name);
    Generation generation(world, model, device, tests);
    answers.push_back({model.name, generation.run()});
    warn_of_empty(options, answers.back().answers);
    journals.push_back(generation.take_journal());
  }
  begin_section(Section::kSave);
  collectively(world, [&] {
    if (world.rank() != 0) return;
    write_answers(options.output, format, tests, answers);
    write_metrics(options, tests, answers);
    for (const auto& journal : journals) journal->remove();
  });
  log("{} answers to {} tests in {}", count_answers(answers), tests.size(), options.output);
}

}  // namespace facet
