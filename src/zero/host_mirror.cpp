#include "zero/host_mirror.h"

namespace facet {

std::vector<float*> HostMirror::show(std::span<const Tensor> vectors) {
  std::vector<float*> shown;
  if (!copies()) {
    for (const Tensor& vector : vectors) shown.push_back(vector.f32());
    return shown;
  }
  vectors_.assign(vectors.begin(), vectors.end());
  copies_.clear();
  Arena plan("the copy of the state");
  for (const Tensor& vector : vectors) plan.tensor({vector.numel()});
  if (memory_ == nullptr || memory_->capacity() < plan.peak())
    memory_ = std::make_unique<Arena>(plan.name(), plan.peak());
  memory_->release(0);
  for (const Tensor& vector : vectors) {
    copies_.push_back(memory_->tensor({vector.numel()}));
    ops_.copy_to_host(copies_.back().raw(), vector);
    shown.push_back(copies_.back().f32());
  }
  return shown;
}

void HostMirror::write_back() {
  for (size_t i = 0; i < copies_.size(); ++i) ops_.copy_from_host(vectors_[i], copies_[i].raw());
}

}  // namespace facet
