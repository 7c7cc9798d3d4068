// Models by their name on the Hugging Face hub, as they lie in its local cache: nothing is asked
// over the network.
//
// Layout (huggingface_hub): CACHE/models--ORG--NAME/refs/REVISION holds a commit, and
// .../snapshots/COMMIT/ the files of it. A REVISION is a branch, such as main, or a tag.
#pragma once

#include <optional>
#include <string>

namespace facet {

struct HubLookup {
  std::string directory;  // the snapshot's, or empty
  std::string failure;    // then: why, and what to do about it
};

// $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or
// ~/.cache/huggingface/hub: the first whose variable is set.
std::string hub_cache_directory();

// The model NAME or ORG/NAME, of the revision main, or NAME@REVISION of another one or of a commit,
// which is given in full; nothing for what can't be such a name.
std::optional<HubLookup> look_up_in_hub_cache(const std::string& name);

}  // namespace facet
