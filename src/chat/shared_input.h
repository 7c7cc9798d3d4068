// What is typed at rank 0, on every rank.
#pragma once

#include "chat/chat_input.h"
#include "comm/communicator.h"

namespace facet {

class SharedInput final : public ChatInput {
 public:
  // Rank 0 opens its own input. The communicator must outlive it.
  explicit SharedInput(Communicator& world);

  // Collective; `asked` is the same on every rank. The other ranks show nothing and sleep.
  TypedLine read(Asked asked) override;

 private:
  Communicator& world_;
  std::unique_ptr<ChatInput> own_;  // of rank 0
};

}  // namespace facet
