// The names under which files hold a model's tensors, where these are not the model's own.
#pragma once

#include "io/llava_directory.h"
#include "io/tensor_directory.h"

namespace facet {

// The tensors of a decoder or a vision encoder with the names that Transformers' class has for
// them. In files they may stand behind the prefix of a wrapper around the model, or lack the first
// part of their names where the class without a head was saved; Qwen-VL's encoder stands under that
// of its whole model. Other names stay as they are.
TensorDirectory with_model_names(TensorDirectory tensors, LlavaPart part);

}  // namespace facet
