// Which commit the program was built from.
#pragma once

namespace facet {

// "8762aea1b2c3", with "-dirty" behind it where the tree had been changed; "unknown" where it was
// no repository (scripts/git_version.sh). The Makefile writes the function into a file of its own,
// the only one that is compiled again for another commit; programs without it, the tests, have that
// of git_unknown.cpp.
const char* git_version();

}  // namespace facet
