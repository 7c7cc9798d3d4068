// The journal of one model's answers: where it lies, and what these answers depend on.
#pragma once

#include <memory>

#include "chat/answer_journal.h"
#include "chat/answering_models.h"
#include "comm/communicator.h"

namespace facet {

// Collective. Opens the journal of facet generate's answers with this model, one of
// --checkpoint_names or the only one. Its identity (AnswerJournal) are the options that answers
// depend on, the questions and the system prompt, and the model's files by size and time.
std::unique_ptr<AnswerJournal> open_journal(const AnsweringModel& model, Communicator& world);

}  // namespace facet
