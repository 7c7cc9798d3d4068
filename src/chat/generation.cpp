#include "chat/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/log.h"
#include "base/progress.h"
#include "chat/answer_console.h"
#include "chat/conversation.h"
#include "chat/model_journal.h"
#include "comm/mpi_session.h"
#include "comm/split.h"
#include "train/data_setup.h"
#include "train/progress_hooks.h"
#include "train/run_costs.h"

namespace facet {

namespace {

// How many conversations are held at the same time where the user does not say it.
constexpr int64_t kUsualBatch = 8;

// The arena bytes that conversations need, by what runs the largest they can run into.
PassMemory measure_conversations(DType dtype, const std::function<void(Context&)>& run_largest) {
  UnitHooks hooks;
  return with_rounding(measure({hooks, dtype}, run_largest));
}

}  // namespace

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
    CHECK(
        answered.number >= 0 && answered.number < options_.num_answers &&
            is_answer_to(tests_, answered),
        ExitCode::kBadData,
        "{}: test {}, answer {} belongs to no question of --input: a file there has been changed; "
        "remove the directory to begin anew",
        journal_->directory(), answered.test, answered.number);
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

std::vector<AnsweredTest> Generation::run() {
  begin_section(Section::kLoad);
  journal_ = open_journal(of_, world_);
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

}  // namespace facet
