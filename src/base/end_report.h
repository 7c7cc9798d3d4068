// What a process prints before it ends in error. A launcher that sees a process end may drop what
// it has not read of its pipes yet, and Open MPI's hands on pieces of stdout as they come, so that
// a line of stderr can fall into the middle of one of stdout.
#pragma once

#include <chrono>
#include <string>

namespace facet {

// Prints the message to stderr, in lines of its own, and then the last line to stdout; "" for none
// of either, with a newline at its end or without. Waits, for so long at most each time, until
// whoever reads the two pipes has taken what is in them. Past stdio, whose locks another thread may
// hold: flush stdout before.
void print_end_report(const std::string& message, const std::string& last_line,
                      std::chrono::milliseconds patience = std::chrono::seconds(5));

}  // namespace facet
