# facet: see `make help`. Site settings (compiler, paths, flags) go into config.mk, which git ignores.
-include config.mk

CXX      ?= mpicxx
ifeq ($(origin CXX),default)
CXX      := mpicxx
endif
MPIRUN   ?= mpirun
PYTHON   ?= python3
PREFIX   ?= /usr/local
BUILD    ?= build
JOBS     ?= $(shell nproc)
OPT      ?= -O2
SANITIZE ?=
OPENMP   ?= -fopenmp
# x86-64-v3 (AVX2) runs on every x86 server since 2013; oneDNN selects wider instructions itself at run time.
ARCH     ?= $(if $(filter x86_64,$(shell uname -m)),-march=x86-64-v3,)

# Overflows of the stack and of buffers of known size, indices of containers and forged addresses of library functions end the
# program instead of going on. docs/performance.md has what that costs. Sanitizers see more than _FORTIFY_SOURCE, and not with it.
HARDENING ?= -fstack-protector-strong -D_GLIBCXX_ASSERTIONS $(if $(SANITIZE)$(filter -O0,$(OPT)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDENING_LINK ?= -Wl,-z,relro -Wl,-z,now

# ccache, where it is installed, behind Open MPI's compiler wrapper; it has to be told that precompiled headers are fine.
CCACHE := $(if $(shell command -v ccache 2>/dev/null),ccache)
ifneq ($(CCACHE),)
export OMPI_CXX ?= ccache g++
export CCACHE_SLOPPINESS ?= pch_defines,time_macros
endif

PKG_HDF5     := $(firstword $(foreach p,hdf5-openmpi hdf5-mpich hdf5,$(shell pkg-config --exists $(p) 2>/dev/null && echo $(p))))
HDF5_CFLAGS  ?= $(if $(PKG_HDF5),$(shell pkg-config --cflags $(PKG_HDF5)))
HDF5_LIBS    ?= $(if $(PKG_HDF5),$(shell pkg-config --libs $(PKG_HDF5)),-lhdf5)
DNNL_LIBS    ?= -ldnnl
LIBS         := $(HDF5_LIBS) -lboost_program_options -lsentencepiece -lpcre2-8 -lutf8proc $(DNNL_LIBS) -lfmt -lxxhash -ljpeg -lwebpdemux -lwebp -lz -ledit

# Debug information has paths from the root of the tree: none of the machine that the program was built on.
CXXFLAGS_ALL := -std=c++20 $(OPT) -g1 $(ARCH) $(OPENMP) -Wall -Wextra -Werror $(HARDENING) -DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX \
                -Isrc -I. $(HDF5_CFLAGS) $(SANITIZE) -fdebug-prefix-map=$(CURDIR)=. \
                $(CXXFLAGS) -MMD -MP
# Where programs look for shared libraries, after LD_LIBRARY_PATH and before the system's directories: RPATH, by default where the
# linker has found libraries outside the system. RPATH= leaves them to modules. What is installed looks into the directory
# lib/facet of its installation first, wherever that is.
comma        := ,
RPATH        ?= $(filter-out /usr/lib% /lib%,$(patsubst -L%,%,$(filter -L/%,$(LDFLAGS) $(LIBS) $(CUDA_LIBS))))
OWN_RPATH    := -Wl,--enable-new-dtags -Wl,-rpath,'$$ORIGIN/../lib/facet'
LDFLAGS_ALL   = $(OPENMP) $(HARDENING_LINK) $(SANITIZE) $(addprefix -Wl$(comma)-rpath$(comma),$(RPATH)) $(LDFLAGS)
# The time of a test is in what it tests: at -O1 they compile in two thirds of the time and run as fast.
TEST_OPT     ?= -O1
TEST_FLAGS    = $(patsubst -O2,$(TEST_OPT),$(CXXFLAGS_ALL))

# What nearly every file includes (fmt, GoogleTest, containers) is parsed once for each set of flags. PRECOMPILED=no compiles
# without, which shows where an include is missing; so do compilers other than GCC. (The two warnings: where <string> was
# precompiled, GCC 12 takes moved characters for out of bounds.)
PRECOMPILED  ?= $(if $(findstring Free Software,$(shell $(CXX) --version 2>/dev/null)),yes,no)
PRECOMPILED  := $(PRECOMPILED)
# $(1): where the objects lie, $(2): sources or tests
precompiled         = $(if $(filter yes,$(PRECOMPILED)),$(1)/$(2).h.gch)
include_precompiled = $(if $(filter yes,$(PRECOMPILED)),-Winvalid-pch -Wno-array-bounds -Wno-stringop-overflow -include $(1)/$(2).h)
# Everything is compiled again when the flags change.
SOURCE_HEADERS     := $(call precompiled,$(BUILD)/obj,sources) $(BUILD)/flags
TEST_HEADERS       := $(call precompiled,$(BUILD)/obj,tests) $(BUILD)/flags

# Compiles run through this; it notes what they cost, by room, for the account that the test runner prints.
TIMED := scripts/timed.sh $(BUILD)/times.log

ROOMS    ?= base device ops comm io nn data model optim job zero checkpoint options train chat
SOURCES  := $(foreach r,$(ROOMS),$(wildcard src/$(r)/*.cpp)) $(wildcard kernels/cpu/*.cpp) \
            $(if $(filter train,$(ROOMS)),src/train/cuda/without_gpu.cpp)
OBJECTS  := $(SOURCES:%.cpp=$(BUILD)/obj/%.o) $(BUILD)/obj/prompt_texts.o
LIBRARY  := $(BUILD)/libfacet.a
TINY_OBJECTS := $(patsubst %.cpp,$(BUILD)/obj/%.o,$(wildcard data/tiny/*.cpp))

# One test program a room: tests/ROOM/*.cpp -> build/tests/test_ROOM.
TEST_ROOMS    ?= $(filter-out bench e2e kernels fuzz,$(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/*.cpp)))))
TEST_PROGRAMS := $(TEST_ROOMS:%=$(BUILD)/tests/test_%)
TEST_OBJECTS   = $(patsubst %.cpp,$(BUILD)/obj/%.o,$(wildcard tests/$(1)/*.cpp))
BENCHMARKS    := $(patsubst tests/bench/%.cpp,$(BUILD)/bench/%,$(wildcard tests/bench/*.cpp))

.DEFAULT_GOAL := all
.PHONY: all help deps install uninstall demo check quick tiny bench soak sabotage format tests lint clean
.PHONY: check-sanitized-build check-h5py

all: $(BUILD)/facet ## build the program

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile kernels/*.mk tests/fuzz/fuzz.mk

install: all $(BUILD)/make_tiny ## install into PREFIX=/usr/local; DESTDIR= goes before it. Needs no root where PREFIX is your own
	@BUILD='$(BUILD)' PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install.sh install

uninstall: ## remove from PREFIX what was installed; an edited site.env stays
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install.sh uninstall

deps: ## install missing packages of the distribution (FACET_INSTALL=0: only list them)
	@scripts/install_deps.sh

demo: deps ## train a small model on 2 ranks, draw the loss, write captions; on the CPU
	@$(QUICK_MAKE) all $(BUILD)/make_tiny
	@scripts/demo.sh $(BUILD)

# Here nvcc compiles the kernels for one architecture, and as PTX for the drivers of others: this takes a third of the
# time of `make`, and the program still runs everywhere.
QUICK_MAKE = $(MAKE) --no-print-directory -j$(JOBS) CUDA_ARCHITECTURES="sm_80 compute_80"
check: ## all tests; ends with passed, failed, skipped, the ten slowest and what each room took
	@scripts/install_deps.sh tests
	@rm -f $(BUILD)/times.log $(BUILD)/sanitized/times.log
	@$(QUICK_MAKE) all tests $(BUILD)/make_tiny kernel-tests $(BUILD)/emulated/facet $(BUILD)/emulated/test_curves $(BUILD)/emulated/gpu_bench nvcc-check
	@$(QUICK_MAKE) check-sanitized-build
	@BUILD=$(BUILD) scripts/run_tests.sh all

check-h5py: all $(BUILD)/make_tiny ## compare the checkpoints of all stages and rank counts in Python: PYTHON=one with h5py and numpy
	@FACET_H5PY=$(PYTHON) BUILD=$(BUILD) bash tests/e2e/matrix.sh

quick: ## the tests that take seconds
	@rm -f $(BUILD)/times.log
	@$(QUICK_MAKE) all tests $(BUILD)/make_tiny $(BUILD)/emulated/test_kernels $(BUILD)/emulated/test_comm
	@BUILD=$(BUILD) scripts/run_tests.sh quick

tests: $(TEST_PROGRAMS) ## build the test programs

# The rooms that read what others wrote, or that handle memory by hand. The rest is arithmetic on what these hand out, and
# the golden cases take the same ways as the tests of model.
SANITIZED_ROOMS := base device ops comm io nn data model job zero checkpoint options
# GCC takes values for uninitialized in code that it has instrumented.
SANITIZED_MAKE = $(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/sanitized OPT=-O1 \
  ROOMS="$(filter-out train chat,$(ROOMS))" CXXFLAGS="-DFACET_CHECKED -Wno-maybe-uninitialized" \
  SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
check-sanitized-build:
	@$(SANITIZED_MAKE) TEST_ROOMS="$(SANITIZED_ROOMS) fuzz" tests

tiny: $(BUILD)/make_tiny ## make build/tiny/{clip,lm,data,train.cfg} for first experiments
	@$(BUILD)/make_tiny --output $(BUILD)/tiny

bench: $(BENCHMARKS) all $(BUILD)/make_tiny ## speed of a full fine-tuning step beside the large-product rate (and PyTorch where found); images/s a core (and Pillow's where found); time that saves take from it; gain of --tokens_per_micro_batch; tokens/s of decoding (and Transformers' where found)
	@BUILD=$(BUILD) scripts/bench.sh
	@BUILD=$(BUILD) scripts/bench_saves.sh
	@BUILD=$(BUILD) scripts/bench_tokens.sh
	@BUILD=$(BUILD) scripts/bench_decode.sh

soak: all $(BUILD)/make_tiny ## kill a run KILLS=200 times (SEED=1), at named and random moments, and compare its end with an uninterrupted run
	@BUILD=$(BUILD) KILLS=$(or $(KILLS),200) SEED=$(or $(SEED),1) bash tests/e2e/soak.sh

sabotage: ## break each promise by a one-line patch and show that its test fails
	@scripts/sabotage.sh

format: ## clang-format the tree
	@git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format -i

lint: ## layering, gates and formatting
	@scripts/check_layers.sh
	@scripts/check_gates.sh
	@scripts/check_format.sh

clean: ## remove build products
	@rm -rf $(BUILD)

$(BUILD)/facet: $(BUILD)/obj/src/main.o $(BUILD)/obj/git_version.o $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(OWN_RPATH) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) $(GPU_LIBS)

$(BUILD)/make_tiny: $(BUILD)/obj/data/make_tiny.o $(TINY_OBJECTS) $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(OWN_RPATH) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) -lsentencepiece_train

# The data tests read what make_tiny draws.
$(BUILD)/tests/test_data: $(TINY_OBJECTS)
$(BUILD)/tests/test_data: TEST_LIBS := -lsentencepiece_train

# Objects are named one by one: make does not compile the ones that it only finds by a pattern where the program that
# they belong to is newer than their source.
define test_program
$(BUILD)/tests/test_$(1): $(call TEST_OBJECTS,$(1)) $(BUILD)/obj/tests/test_main.o $(LIBRARY)
	@mkdir -p $$(@D)
	@echo "  link  $$@"
	@$(CXX) $(LDFLAGS_ALL) -o $$@ $$(filter %.o,$$^) $(LIBRARY) $(LIBS) $$(TEST_LIBS) -lgtest
endef
$(foreach room,$(TEST_ROOMS),$(eval $(call test_program,$(room))))

$(BENCHMARKS): $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $< $(LIBRARY) $(LIBS)

$(LIBRARY): $(OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

# Numeric loops are compiled for speed, without assuming away NaN or infinity. Without the last
# two flags sqrt and selections could not be vectorised (errno, floating-point traps).
$(BUILD)/obj/kernels/%.o $(BUILD)/obj/src/base/half.o: FILE_FLAGS := $(if $(filter -O2,$(OPT)),-O3) -fno-math-errno -fno-trapping-math
# The vectors of this one stay in registers only where loops over them are unrolled.
$(BUILD)/obj/src/data/resize_passes.o: FILE_FLAGS := $(if $(filter -O2,$(OPT)),-O3)
# Pixels must have the same bits as with Pillow and numpy, which round every operation.
$(BUILD)/obj/src/data/resize.o $(BUILD)/obj/src/data/image_preprocess.o: FILE_FLAGS := -ffp-contract=off

# The texts of data/prompts as string constants, so that the program needs no file at run time.
$(BUILD)/prompt_texts.cpp: data/prompts/system.txt data/prompts/caption_questions.txt data/prompts/why_phrases.txt
	@mkdir -p $(@D)
	@{ echo '#include "data/prompt_texts.h"'; \
	   printf 'const std::string_view facet::kDefaultSystemText = R"text('; cat data/prompts/system.txt; echo ')text";'; \
	   printf 'const std::string_view facet::kDefaultCaptionQuestions = R"text('; \
	   cat data/prompts/caption_questions.txt; echo ')text";'; \
	   printf 'const std::string_view facet::kDefaultWhyPhrases = R"text('; cat data/prompts/why_phrases.txt; echo ')text";'; } > $@

$(BUILD)/obj/prompt_texts.o: $(BUILD)/prompt_texts.cpp
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(CXX) $(CXXFLAGS_ALL) -c -o $@ $<

# The commit. Linked before the library, which has git_unknown.o in its place: nothing else is made again for another commit.
$(BUILD)/git_version.cpp: FORCE
	@mkdir -p $(@D)
	@{ echo '#include "train/git_version.h"'; echo "const char* facet::git_version() { return \"$$(scripts/git_version.sh)\"; }"; } > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/obj/git_version.o: $(BUILD)/git_version.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(CXX) $(CXXFLAGS_ALL) -c -o $@ $<

# A precompiled header is of use to what is compiled with the same flags only.
$(BUILD)/obj/%.o: %.cpp $(SOURCE_HEADERS)
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(TIMED) $< $(CXX) $(CXXFLAGS_ALL) $(or $(FILE_FLAGS),$(call include_precompiled,$(BUILD)/obj,sources)) -c -o $@ $<

$(BUILD)/obj/tests/%.o: tests/%.cpp $(TEST_HEADERS)
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(TIMED) $< $(CXX) $(TEST_FLAGS) $(TARGET_FLAGS) $(call include_precompiled,$(BUILD)/obj,tests) -c -o $@ $<

$(BUILD)/obj/tests/bench/%.o: tests/bench/%.cpp
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(CXX) $(CXXFLAGS_ALL) -c -o $@ $<

# The programs are linked again when the flags of that change.
LINK_FLAGS = $(strip $(subst ',,$(OWN_RPATH)) $(LDFLAGS_ALL) $(LIBS))
$(BUILD)/facet $(BUILD)/make_tiny: $(BUILD)/link_flags
$(BUILD)/link_flags: FORCE
	@mkdir -p $(@D)
	@echo '$(LINK_FLAGS)' | cmp -s - $@ || echo '$(LINK_FLAGS)' > $@

$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(strip $(CXX) $(CXXFLAGS_ALL))' | cmp -s - $@ || echo '$(strip $(CXX) $(CXXFLAGS_ALL))' > $@

# $(1): where the objects lie, $(2): the compiler with the flags of sources, $(3): with those of tests
define precompiled_headers
$(1)/sources.h.gch: src/base/precompiled.h $(BUILD)/flags
	@mkdir -p $$(@D)
	@echo '#include "base/precompiled.h"' > $$(@D)/sources.h
	@$(TIMED) $$< $(2) -x c++-header -o $$@ $$(@D)/sources.h

$(1)/tests.h.gch: tests/precompiled.h src/base/precompiled.h $(BUILD)/flags
	@mkdir -p $$(@D)
	@echo '#include "tests/precompiled.h"' > $$(@D)/tests.h
	@$(TIMED) $$< $(3) -x c++-header -o $$@ $$(@D)/tests.h
endef
$(eval $(call precompiled_headers,$(BUILD)/obj,$(CXX) $(CXXFLAGS_ALL),$(CXX) $(TEST_FLAGS)))

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

include kernels/cuda.mk
include kernels/emulated.mk
include kernels/reports.mk
include tests/fuzz/fuzz.mk
