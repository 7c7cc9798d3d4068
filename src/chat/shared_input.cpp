#include "chat/shared_input.h"

namespace facet {

SharedInput::SharedInput(Communicator& world) : world_(world) {
  if (world.rank() == 0) own_ = open_chat_input();
}

TypedLine SharedInput::read(Asked asked) {
  TypedLine typed;
  if (own_) typed = own_->read(asked);
  world_.await_root(0);
  typed.kind = static_cast<TypedLine::Kind>(world_.broadcast(static_cast<int64_t>(typed.kind), 0));
  world_.broadcast(typed.text, 0);
  return typed;
}

}  // namespace facet
