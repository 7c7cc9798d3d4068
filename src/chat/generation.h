// The answers of facet generate by one model: what of the questions is left to answer, whose part
// of it each rank is, the model, and the memory that the conversations take.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chat/answer_journal.h"
#include "chat/answering_models.h"
#include "chat/conversation_batch.h"
#include "chat/generate_io.h"
#include "chat/round_pieces.h"
#include "comm/communicator.h"
#include "device/arena.h"
#include "train/compute_device.h"
#include "train/measured_pass.h"
#include "train/model_setup.h"
#include "train/stored_model.h"
#include "zero/rank_group.h"

namespace facet {

class Generation {
 public:
  // The arguments must outlive it.
  Generation(Communicator& world, const AnsweringModel& model, ComputeDevice& device,
             const std::vector<GenerationTest>& tests)
      : world_(world), of_(model), options_(model.options), device_(device), tests_(tests) {}

  // Collective. A model whose answers are all in the journal is not loaded.
  std::vector<AnsweredTest> run();
  // After run().
  std::unique_ptr<AnswerJournal> take_journal() { return std::move(journal_); }

 private:
  // A test, by its index, and the number of the answer to it.
  using Task = std::pair<int64_t, int64_t>;

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

}  // namespace facet
