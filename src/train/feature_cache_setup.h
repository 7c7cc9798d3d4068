// The cache of vision features (data/feature_cache.h) in a run: when there is one, where it lies,
// when the ranks see each other's features.
#pragma once

#include <memory>
#include <string>

#include "comm/mpi_session.h"
#include "data/feature_cache.h"
#include "options/options.h"
#include "train/compute_device.h"
#include "train/model_setup.h"

namespace facet {

inline constexpr const char* kVisionUnits = "vis_encoder.";

// Of --feature_cache, not yet open; nullptr without it, and with a warning where the vision encoder
// is trained.
std::unique_ptr<FeatureCache> make_feature_cache(const Options& options, const ModelSetup& model);
bool trains_vision(const ParamTable& table);
bool keeps_features(const Options& options, const ModelSetup& model);
// What they would take on the disk, a line; "" where none are kept.
std::string feature_plan_text(const Options& options, const ModelSetup& model);
// Of an image, as the run computes them.
int64_t feature_bytes(const Options& options, const VlmConfig& config);

// What features depend on besides the image and are made with.
struct FeatureOrigin {
  const ModelSetup& model;
  const ComputeDevice& device;
  uint64_t weights = 0;  // hash of the vision encoder's
};
// Opens the cache for images to be found in and to be stored. Collective; throws CollectiveErrors.
void open_feature_cache(const Options& options, MpiSession& session, const FeatureOrigin& origin,
                        FeatureCache& cache);
// Lets all ranks find what each has stored so far. Collective.
void share_features(Communicator& world, FeatureCache& cache);

// Of all ranks. Collective.
FeatureCounts counts_of_all_ranks(Communicator& world, const FeatureCache& cache);

}  // namespace facet
