// An error that one rank meets between two steps, by itself: a row that its disk does not take,
// say. The other ranks go on meanwhile, so it is kept until all of them hear of it in the exchange
// after the step (save_schedule.h). Then the run ends with it on every rank, at a whole step, which
// can be saved. An error inside a step cannot wait: there the others need what this rank would
// send.
#pragma once

#include <exception>

#include "comm/mpi_session.h"

namespace facet {

class LocalError {
 public:
  // Runs body() and keeps what it throws; of several errors the first.
  template <typename Body>
  void keep(const Body& body) {
    try {
      body();
    } catch (const CollectiveError&) {
      throw;  // no rank goes on
    } catch (const std::exception&) {
      if (!met()) error_ = std::current_exception();
    }
  }
  bool met() const { return error_ != nullptr; }
  // Collective, after any rank has met one: throws it on all of them.
  void throw_on_all(Communicator& world) const {
    collectively(world, [&] {
      if (met()) std::rethrow_exception(error_);
    });
  }

 private:
  std::exception_ptr error_;
};

}  // namespace facet
