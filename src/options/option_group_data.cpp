// The options of group "Data" in --help.
#include "data/chat_template.h"
#include "data/dataset.h"
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

void add_data_options(std::vector<OptionField>& t) {
  const auto data = [&](const char* name, OptionMember member, OnResume on_resume,
                        const char* help) {
    return field(name, member, Group::kData, "te", on_resume, help);
  };
  t.push_back(data("data_path", &O::data_path, kMayChange, "directory that holds all data sets")
                  .directory()
                  .usually_given());
  t.push_back(data("image_root", &O::image_root, kMayChange,
                   "directory of the images of own data (json:PATH); without it they lie beside "
                   "PATH")
                  .directory());
  t.push_back(
      data("dataset_names", &O::dataset_names, kMustMatch,
           "the data sets; of own data json:PATH, JSON lines or an array, and tar:PATH, tar "
           "shards such as tar:'s-{000..127}.tar'")
          .one_of(dataset_names())
          .or_kinds(own_dataset_kinds())
          .usually_given());
  t.push_back(data("dataset_samples", &O::dataset_samples, kMustMatch,
                   "number of samples of each, or all; a single value applies to every data set"));
  t.push_back(data("dataset_concatenate_samples", &O::dataset_concatenate_samples, kMustMatch,
                   "join 1 to k single-image samples into one; a single k applies to every data "
                   "set")
                  .in(1, 1024));
  t.push_back(data("dataset_weights", &O::dataset_weights, kMustMatch,
                   "share of each data set in an epoch, whatever its size; only the ratios count; "
                   "without it every sample is used once an epoch")
                  .in(1e-6, 1e6));
  t.push_back(data("data_config", &O::data_config, kMayChange,
                   "JSON file with the data sets, their samples, weights, files and system texts, "
                   "instead of --dataset_names and the options that go with it")
                  .file());
  t.push_back(data("data_train_split_ratio", &O::data_train_split_ratio, kMustMatch,
                   "fraction of the samples used for training; the rest is for evaluation")
                  .in(0, 1));
  t.push_back(data("max_num_image_per_sample", &O::max_num_image_per_sample, kMustMatch,
                   "a sample with more images is a bad sample: see --bad_samples; the otter, blend "
                   "and sparkles sets leave such conversations out")
                  .in(0, 1 << 16));
  t.push_back(field("system_prompt_file", &O::system_prompt_file, Group::kData, "tegc", kMayChange,
                    "text that opens every conversation, instead of the one in data/prompts/")
                  .file());
  t.push_back(field("chat_template", &O::chat_template, Group::kData, "tegc", kMustMatch,
                    "the form of a conversation: this program's own, or that of a chat model to go "
                    "on from; its tokenizer must have the form's tokens")
                  .one_of(chat_template_names()));
  t.push_back(data("caption_questions_file", &O::caption_questions_file, kMayChange,
                   "questions to ask about captioned images, one per line")
                  .file());
  t.push_back(data("why_phrases_file", &O::why_phrases_file, kMayChange,
                   "phrases that ask for the reasons of an answer (aokvqa), one per line")
                  .file());
  t.push_back(data("bad_samples", &O::bad_samples, kMustMatch,
                   "a sample that cannot be used, e.g. an unreadable image or an empty answer: "
                   "error ends the run, skip leaves the sample out and counts it")
                  .one_of({"error", "skip"}));
  t.push_back(data("max_bad_fraction", &O::max_bad_fraction, kMayChange,
                   "with --bad_samples skip: end the run when more than this fraction is bad")
                  .in(0, 1));
  t.push_back(
      field("max_image_pixels", &O::max_image_pixels, Group::kData, "tegc", kMustMatch,
            "an image with more pixels is a bad sample and is not decoded; above the default "
            "Pillow warns of a decompression bomb. Decoding takes a worker up to 8 bytes "
            "of memory a pixel")
          .in(1, 1LL << 40));
  t.push_back(data("allow_outside_images", &O::allow_outside_images, kMayChange,
                   "records may name images outside their set's directory, by absolute paths or "
                   "..; else such a sample is bad"));
  t.push_back(data("num_workers", &O::num_workers, kMayChange,
                   "host threads of each rank that read and decode ahead; 0: none")
                  .in(0, 256));
  t.push_back(field("feature_cache", &O::feature_cache, Group::kData, "t", kMayChange,
                    "directory in which the features that the frozen vision encoder computes are "
                    "kept, for later epochs and other runs, several at a time; cache-features "
                    "fills it beforehand")
                  .new_directory());
  t.push_back(field("feature_cache_gib", &O::feature_cache_gib, Group::kData, "t", kMayChange,
                    "once --feature_cache holds this many GiB nothing more is added, and other "
                    "images are computed each time; 0: until the disk is full")
                  .in(0, 1LL << 32));
  t.push_back(field("replay", &O::replay, Group::kData, "t", kMayChange,
                    "train on the micro-batches recorded in this HDF5 file, in their order")
                  .file());
  t.push_back(field("dump_batches", &O::dump_batches, Group::kData, "t", kMayChange,
                    "record the micro-batches of the first N steps in OUT/batches.h5")
                  .in(0, 1 << 20));
  t.push_back(field("data_debug_path", &O::data_debug_path, Group::kData, "t", kMayChange,
                    "write the first ten training samples as text and images to this directory")
                  .new_directory());
}

}  // namespace facet
