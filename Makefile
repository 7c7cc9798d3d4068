# facet: see `make help`. Site settings (compiler, paths, flags) go into config.mk, which git ignores.
-include config.mk

CXX      ?= mpicxx
ifeq ($(origin CXX),default)
CXX      := mpicxx
endif
MPIRUN   ?= mpirun
PYTHON   ?= python3
BUILD    ?= build
JOBS     ?= $(shell nproc)
OPT      ?= -O2
SANITIZE ?=
# x86-64-v3 (AVX2) runs on every x86 server since 2013; oneDNN selects wider instructions itself at run time.
ARCH     ?= $(if $(filter x86_64,$(shell uname -m)),-march=x86-64-v3,)

# ccache, if installed, called by Open MPI's compiler wrapper.
ifneq ($(shell command -v ccache 2>/dev/null),)
export OMPI_CXX ?= ccache g++
endif

PKG_HDF5     := $(firstword $(foreach p,hdf5-openmpi hdf5-mpich hdf5,$(shell pkg-config --exists $(p) 2>/dev/null && echo $(p))))
HDF5_CFLAGS  ?= $(if $(PKG_HDF5),$(shell pkg-config --cflags $(PKG_HDF5)))
HDF5_LIBS    ?= $(if $(PKG_HDF5),$(shell pkg-config --libs $(PKG_HDF5)),-lhdf5)
DNNL_LIBS    ?= -ldnnl
LIBS         := $(HDF5_LIBS) -lboost_program_options -lsentencepiece $(DNNL_LIBS) -lfmt -lxxhash -ljpeg -lpng -lz

CXXFLAGS_ALL := -std=c++20 $(OPT) -g1 $(ARCH) -fopenmp -Wall -Wextra -Werror -DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX \
                -Isrc -I. $(HDF5_CFLAGS) $(SANITIZE) \
                $(CXXFLAGS) -MMD -MP
LDFLAGS_ALL  := -fopenmp $(SANITIZE) $(LDFLAGS)

ROOMS    := base device ops comm io nn data model optim job zero checkpoint options train chat
SOURCES  := $(foreach r,$(ROOMS),$(wildcard src/$(r)/*.cpp)) $(wildcard kernels/cpu/*.cpp) src/train/cuda/without_gpu.cpp
OBJECTS  := $(SOURCES:%.cpp=$(BUILD)/obj/%.o) $(BUILD)/obj/prompt_texts.o
LIBRARY  := $(BUILD)/libfacet.a
TINY_OBJECTS := $(patsubst %.cpp,$(BUILD)/obj/%.o,$(wildcard data/tiny/*.cpp))

# One test program per room: tests/ROOM/*.cpp -> build/tests/test_ROOM.
TEST_ROOMS    := $(filter-out bench kernels,$(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/*.cpp)))))
TEST_PROGRAMS := $(TEST_ROOMS:%=$(BUILD)/tests/test_%)
TEST_OBJECTS   = $(patsubst %.cpp,$(BUILD)/obj/%.o,$(wildcard tests/$(1)/*.cpp))

.DEFAULT_GOAL := all
.PHONY: all help deps demo check quick tiny bench soak sabotage format tests lint clean check-sanitized check-h5py
.SECONDARY:

all: $(BUILD)/facet ## build the program

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile kernels/*.mk

deps: ## install missing packages of the distribution (FACET_INSTALL=0: only list them)
	@scripts/install_deps.sh

demo: deps ## train a small model on 2 ranks, draw the loss, write captions; on the CPU
	@$(QUICK_MAKE) all $(BUILD)/make_tiny
	@scripts/demo.sh $(BUILD)

# Here nvcc compiles the kernels for one architecture, and as PTX for the drivers of others: this takes a third of the
# time of `make`, and the program still runs everywhere.
QUICK_MAKE = $(MAKE) --no-print-directory -j$(JOBS) CUDA_ARCHITECTURES="sm_80 compute_80"
check: deps ## all tests; ends with passed, failed, skipped and the ten slowest
	@$(QUICK_MAKE) all tests $(BUILD)/make_tiny
	@$(QUICK_MAKE) check-sanitized-build
	@$(QUICK_MAKE) kernel-tests $(COVERAGE)/test_kernels $(BUILD)/emulated/facet $(BUILD)/emulated/test_curves nvcc-check
	@BUILD=$(BUILD) scripts/run_tests.sh all

check-h5py: all $(BUILD)/make_tiny ## compare the checkpoints of all stages and rank counts in Python: PYTHON=one with h5py and numpy
	@FACET_H5PY=$(PYTHON) BUILD=$(BUILD) bash tests/e2e/matrix.sh

quick: ## the tests that take seconds, with what is already built
	@$(QUICK_MAKE) all tests $(BUILD)/make_tiny $(BUILD)/emulated/test_kernels $(BUILD)/emulated/test_comm
	@BUILD=$(BUILD) scripts/run_tests.sh quick

tests: $(TEST_PROGRAMS) ## build the test programs

check-sanitized-build:
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/sanitized OPT=-O1 \
	  SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" \
	  CXXFLAGS=-DFACET_CHECKED tests

tiny: $(BUILD)/make_tiny ## make build/tiny/{clip,lm,data} for first experiments
	@$(BUILD)/make_tiny --output $(BUILD)/tiny

bench: $(patsubst tests/bench/%.cpp,$(BUILD)/bench/%,$(wildcard tests/bench/*.cpp)) all $(BUILD)/make_tiny ## speed of a full fine-tuning step against the rate of large products (and PyTorch if found); cost of saving
	@BUILD=$(BUILD) scripts/bench.sh
	@BUILD=$(BUILD) scripts/bench_saves.sh

soak: all $(BUILD)/make_tiny ## kill a run KILLS=200 times (SEED=1), at named and random moments, and compare its end with an uninterrupted run
	@BUILD=$(BUILD) KILLS=$(or $(KILLS),200) SEED=$(or $(SEED),1) bash tests/e2e/soak.sh

sabotage: ## break each promise by a one-line patch and show that its test fails
	@scripts/sabotage.sh

format: ## clang-format the tree
	@git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format -i

lint: ## layering and formatting
	@scripts/check_layers.sh
	@scripts/check_format.sh

clean: ## remove build products
	@rm -rf $(BUILD)

$(BUILD)/facet: $(BUILD)/obj/src/main.o $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) $(GPU_LIBS)

$(BUILD)/make_tiny: $(BUILD)/obj/data/make_tiny.o $(TINY_OBJECTS) $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) -lsentencepiece_train

# The data tests read what make_tiny draws.
$(BUILD)/tests/test_data: $(TINY_OBJECTS)
$(BUILD)/tests/test_data: TEST_LIBS := -lsentencepiece_train

.SECONDEXPANSION:
$(BUILD)/tests/test_%: $$(call TEST_OBJECTS,%) $(BUILD)/obj/tests/test_main.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) $(TEST_LIBS) -lgtest

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $< $(LIBRARY) $(LIBS)

$(LIBRARY): $(OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

# Numeric loops are compiled for speed, without assuming away NaN or infinity. Without the last
# two flags sqrt and selections could not be vectorised (errno, floating-point traps).
$(BUILD)/obj/kernels/%.o $(BUILD)/obj/src/base/half.o: FILE_FLAGS := $(if $(filter -O2,$(OPT)),-O3) -fno-math-errno -fno-trapping-math
# Pixels must have the same bits as with Pillow and numpy, which round every operation.
$(BUILD)/obj/src/data/resize.o $(BUILD)/obj/src/data/clip_preprocess.o: FILE_FLAGS := -ffp-contract=off

# The texts of data/prompts as string constants, so that the program needs no file at run time.
$(BUILD)/prompt_texts.cpp: data/prompts/system.txt data/prompts/caption_questions.txt
	@mkdir -p $(@D)
	@{ echo '#include "data/prompt_texts.h"'; \
	   printf 'const std::string_view facet::kDefaultSystemText = R"text('; cat data/prompts/system.txt; echo ')text";'; \
	   printf 'const std::string_view facet::kDefaultCaptionQuestions = R"text('; \
	   cat data/prompts/caption_questions.txt; echo ')text";'; } > $@

$(BUILD)/obj/prompt_texts.o: $(BUILD)/prompt_texts.cpp
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(CXX) $(CXXFLAGS_ALL) -c -o $@ $<

$(BUILD)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(CXX) $(CXXFLAGS_ALL) $(FILE_FLAGS) -c -o $@ $<

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

include kernels/cuda.mk
include kernels/emulated.mk
include kernels/reports.mk
