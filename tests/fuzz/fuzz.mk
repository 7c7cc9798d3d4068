# Fuzzers: every tests/fuzz/NAME.cpp hands bytes to one of the program's readers. Included by the Makefile.
#
#   make fuzz SECONDS=60             each target for that long, with clang's libFuzzer, AddressSanitizer and UBSan
#   make fuzz TARGETS='json image'   only these
#
# build/sanitized/tests/test_fuzz, part of make check, feeds every target its corpus; it needs no clang.

FUZZ_TARGETS := $(patsubst tests/fuzz/%.cpp,%,$(wildcard tests/fuzz/*.cpp))
# Of rooms that neither build has as a whole.
FUZZ_OTHER_SOURCES := $(patsubst %,src/train/%.cpp,log_columns log_table loss_log loss_plot run_record sample_log step_phases \
  svg_plot) \
  src/chat/answer.cpp src/chat/answer_metrics.cpp src/chat/answer_words.cpp src/chat/generate_io.cpp

# ---- the test program: all targets in one, each under a name of its own
FUZZ_TEST_SOURCES := $(wildcard tests/fuzz/common/*.cpp) $(FUZZ_OTHER_SOURCES)
$(BUILD)/tests/test_fuzz: $(FUZZ_TEST_SOURCES:%.cpp=$(BUILD)/obj/%.o)
$(FUZZ_TARGETS:%=$(BUILD)/obj/tests/fuzz/%.o): private TARGET_FLAGS = -DFACET_FUZZ_TARGET=$(notdir $*)

$(BUILD)/sanitized/tests/test_fuzz: FORCE
	@$(SANITIZED_MAKE) TEST_ROOMS=fuzz $@

# ---- the fuzzers, a program each, in a build of their own: only what the targets read with is compiled
CLANG ?= clang++
FUZZ_SOURCES = $(wildcard src/base/*.cpp src/io/*.cpp src/data/*.cpp src/options/*.cpp) $(FUZZ_OTHER_SOURCES) \
  $(patsubst %,src/job/%.cpp,command_output fault_injection lock_file lock_holder run_lock slurm_job slurm_time stop_signals) \
  $(patsubst %,src/checkpoint/%.cpp,adapter checkpoint_directory decoder_family hugging_face_config manifest state_file) \
  src/model/saved_modules.cpp src/model/vision_family.cpp src/optim/lr_schedule.cpp
FUZZ_COMPILER = "$(CCACHE) $(CLANG)"
FUZZ_SANITIZE = -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_MAKE = OMPI_CXX=$(FUZZ_COMPILER) MPICH_CXX=$(FUZZ_COMPILER) $(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/fuzz OPT=-O1 \
  PRECOMPILED=no FACET_CUDA=none OPENMP= SANITIZE="$(FUZZ_SANITIZE)" CXXFLAGS="-DFACET_CHECKED -Wno-unknown-pragmas" \
  SOURCES="$(FUZZ_SOURCES)"

fuzz: ## feed every reader of outside files mutated bytes, SECONDS=60 each; needs clang with libFuzzer
	@scripts/fuzz.sh check "$(CLANG)"
	@$(FUZZ_MAKE) fuzzers
	@BUILD=$(BUILD)/fuzz JOBS=$(JOBS) scripts/fuzz.sh run $(or $(SECONDS),60) $(or $(TARGETS),$(FUZZ_TARGETS))

FUZZERS := $(FUZZ_TARGETS:%=$(BUILD)/fuzzers/%)
fuzzers: $(FUZZERS)

$(FUZZERS): $(BUILD)/fuzzers/%: $(BUILD)/obj/tests/fuzzer/%.o $(BUILD)/obj/tests/fuzz/common/target.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS)

# Here the targets keep the name that libFuzzer calls.
$(BUILD)/obj/tests/fuzzer/%.o: tests/fuzz/%.cpp
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(CXX) $(TEST_FLAGS) -c -o $@ $<

.PHONY: fuzz fuzzers
