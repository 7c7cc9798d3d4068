#include "train/git_version.h"

namespace facet {

const char* git_version() { return "unknown"; }

}  // namespace facet
