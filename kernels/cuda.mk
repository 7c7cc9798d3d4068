# The GPU half of the program, if CUDA is installed. Included by the Makefile.
#
#   FACET_CUDA=none      leaves it out
#   CUDA_ARCHITECTURES   what the kernels are compiled for: sm_XX machine code, compute_XX text that the driver of a
#                        newer GPU translates

NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
FACET_CUDA ?= auto
CUDA_ARCHITECTURES ?= sm_80 sm_90 compute_90

FOUND_CUDA := $(if $(filter none,$(FACET_CUDA)),no FACET_CUDA=none,$(shell CXX="$(CXX)" scripts/find_cuda.sh "$(NVCC)"))

NVCC_FLAGS = -std=c++20 -O2 -Isrc -I. -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror,-fstack-protector-strong \
             $(if $(HOPPER),-DFACET_HOPPER) $(NVCC_CODE)
code_for = $(foreach a,$(1),-gencode arch=$(subst sm_,compute_,$(a)),code=$(a))
NVCC_CODE = $(call code_for,$(CUDA_ARCHITECTURES))

# Files *_hopper.cu use instructions that sm_90a alone has: machine code for Hopper, and for no GPU after it. A program without
# sm_90 leaves them out; nvcc-check compiles them all the same.
HOPPER := $(filter sm_90,$(CUDA_ARCHITECTURES))
%_hopper.o: NVCC_CODE = $(call code_for,sm_90a)
if_hopper = $(if $(HOPPER),$(1),$(filter-out %_hopper.cu %_hopper_test.cpp,$(1)))

empty :=
# Objects for other architectures are kept in other directories.
NVCC_BUILD := $(BUILD)/nvcc/$(subst $(empty) $(empty),+,$(strip $(CUDA_ARCHITECTURES)))

KERNEL_SOURCES := $(call if_hopper,$(wildcard kernels/cuda/*.cu))
# C++ that includes CUDA's or NCCL's headers, or their emulation (kernels/emulated.mk).
GPU_BENCH_SOURCES := $(filter-out %/device_clock_gpu.cpp %/device_clock_emulated.cpp,$(wildcard tests/bench/gpu/*.cpp))
# Those that include cuDNN's are compiled where it is installed; without_cudnn.cpp takes their place elsewhere.
CUDNN_SOURCES := $(wildcard kernels/cuda/cudnn_*.cpp)
CUDA_CPP_SOURCES := $(filter-out $(CUDNN_SOURCES),$(wildcard src/device/cuda/*.cpp kernels/cuda/*.cpp src/comm/cuda/*.cpp)) src/train/cuda/gpu.cpp

ifeq ($(firstword $(FOUND_CUDA)),yes)

CUDA_HOME := $(word 2,$(FOUND_CUDA))
CUDA_LIB  := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/targets/*/lib $(CUDA_HOME)/lib))
HAVE_NCCL := $(filter nccl,$(FOUND_CUDA))
HAVE_CUDNN := $(filter cudnn,$(FOUND_CUDA))
ifneq ($(HAVE_CUDNN),)
CUDA_CPP_SOURCES := $(filter-out kernels/cuda/without_cudnn.cpp,$(CUDA_CPP_SOURCES)) $(CUDNN_SOURCES)
endif
# The compiler searches /usr by default; naming it changes the order of the system headers.
CUDA_FLAGS := $(if $(filter-out /usr,$(CUDA_HOME)),-isystem $(CUDA_HOME)/include) $(if $(HAVE_NCCL),-DFACET_NCCL)
CUDA_LIBS  := $(if $(filter-out /usr,$(CUDA_HOME)),-L$(CUDA_LIB)) \
              -lcudart -lcublasLt $(if $(HAVE_NCCL),-lnccl)

PRODUCT_CUDA_SOURCES := $(if $(HAVE_NCCL),$(CUDA_CPP_SOURCES),$(filter-out src/comm/cuda/nccl_transport.cpp,$(CUDA_CPP_SOURCES)))
CUDA_OBJECTS := $(KERNEL_SOURCES:%.cu=$(NVCC_BUILD)/%.o) $(PRODUCT_CUDA_SOURCES:%.cpp=$(NVCC_BUILD)/%.o)
NVCC_TEST_OBJECTS := $(patsubst %.cu,$(NVCC_BUILD)/%.o,$(wildcard tests/kernels/*.cu kernels/cuda/*_hopper.cu))

$(NVCC_BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  nvcc  $<"
	@$(TIMED) $< $(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<

$(NVCC_BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  c++   $< (cuda)"
	@$(TIMED) $< $(CXX) $(CXXFLAGS_ALL) $(CUDA_FLAGS) -DFACET_CUDA_ARCHITECTURES='"$(strip $(CUDA_ARCHITECTURES))"' -c -o $@ $<

# The program links these before the library, which has without_gpu.o instead of gpu.o.
$(BUILD)/facet: $(CUDA_OBJECTS)
$(BUILD)/facet: GPU_LIBS = $(CUDA_LIBS)

cuda: $(BUILD)/facet ## the program, its kernels compiled for all of CUDA_ARCHITECTURES

CUDA_CHOICE := $(CUDA_ARCHITECTURES) $(HAVE_NCCL) $(HAVE_CUDNN)

# ---- the tests on a GPU: those of the emulation (kernels/emulated.mk), except those that need the emulation
ONLY_EMULATED := $(patsubst %,tests/kernels/%_test.cpp,backend_allocation compile cublaslt cudnn_refusal device_memory layer_launches linear_refusal planted_bugs product_choices stream switch tensor_core_use upload)
GPU_KERNEL_TESTS := $(filter-out $(ONLY_EMULATED),$(call if_hopper,$(wildcard tests/kernels/*.cpp))) $(if $(HAVE_CUDNN),$(wildcard tests/kernels/gpu/cudnn_*.cpp)) \
  tests/device/cuda/planted_for_test.cpp $(call if_hopper,$(patsubst %,tests/kernels/%.cu,tile_kernels tile_kernels_hopper warp_kernels planted_bugs))
gpu_objects = $(patsubst %,$(NVCC_BUILD)/%.o,$(basename $(1) tests/device/cuda/gpu.cpp))

$(BUILD)/gpu/test_kernels: $(call gpu_objects,$(KERNEL_SOURCES) $(filter src/device/% kernels/%,$(CUDA_CPP_SOURCES)) $(GPU_KERNEL_TESTS))
$(BUILD)/gpu/test_curves: $(filter-out %/train/cuda/gpu.o,$(CUDA_OBJECTS)) $(call gpu_objects,tests/golden/cuda/curve_test.cpp) \
  $(addprefix $(BUILD)/obj/tests/,golden/curve_rig.o golden/golden_file.o test_main.o)
$(BUILD)/gpu/test_comm: $(call gpu_objects,$(addprefix src/device/cuda/,page_lock.cpp stream.cpp) $(filter src/comm/%,$(CUDA_CPP_SOURCES)) tests/comm/cuda/transport_test.cpp) \
  $(BUILD)/obj/tests/test_main.o
GPU_TESTS := $(patsubst %,$(BUILD)/gpu/test_%,kernels curves $(if $(HAVE_NCCL),comm))
$(GPU_TESTS): $(LIBRARY) $(BUILD)/cuda_choice
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) $(CUDA_LIBS) -lgtest


# ---- a bundle for a machine that has a GPU's driver and CUDA's libraries alone: the programs are one rank each and need no NCCL
WITHOUT_NCCL := $(NVCC_BUILD)/without_nccl/src/comm/cuda/device_collectives.o
$(WITHOUT_NCCL): src/comm/cuda/device_collectives.cpp
	@mkdir -p $(@D)
	@echo "  c++   $< (cuda, without NCCL)"
	@$(CXX) $(CXXFLAGS_ALL) $(filter-out -DFACET_NCCL,$(CUDA_FLAGS)) -c -o $@ $<

without_nccl = $(filter-out %/device_collectives.o %/nccl_transport.o,$(1)) $(WITHOUT_NCCL)
BUNDLED := $(patsubst %,$(BUILD)/gpu/bundled/%,facet gpu_bench test_kernels test_curves)
$(BUILD)/gpu/bundled/facet: $(call without_nccl,$(CUDA_OBJECTS)) $(BUILD)/obj/src/main.o $(BUILD)/obj/git_version.o
$(BUILD)/gpu/bundled/gpu_bench: $(call without_nccl,$(CUDA_OBJECTS)) $(BUILD)/obj/git_version.o \
  $(patsubst %.cpp,$(NVCC_BUILD)/%.o,$(GPU_BENCH_SOURCES) tests/bench/gpu/device_clock_gpu.cpp)
$(BUILD)/gpu/bundled/test_%: BUNDLED_LIBS = -lgtest
$(BUILD)/gpu/bundled/test_kernels: $(call gpu_objects,$(KERNEL_SOURCES) $(filter src/device/% kernels/%,$(CUDA_CPP_SOURCES)) $(GPU_KERNEL_TESTS))
$(BUILD)/gpu/bundled/test_curves: $(call without_nccl,$(filter-out %/train/cuda/gpu.o,$(CUDA_OBJECTS))) \
  $(call gpu_objects,tests/golden/cuda/curve_test.cpp) $(addprefix $(BUILD)/obj/tests/,golden/curve_rig.o golden/golden_file.o test_main.o)
$(BUNDLED): $(LIBRARY) $(BUILD)/cuda_choice
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) $(filter-out -lnccl,$(CUDA_LIBS)) $(BUNDLED_LIBS)

gpu-bundle: $(BUNDLED) $(BUILD)/make_tiny ## build/facet-gpu.tar.gz: program, GPU tests and benchmark for a machine with a GPU's driver and CUDA alone
	@scripts/gpu_bundle.sh $(BUILD)/facet-gpu facet=$(BUILD)/gpu/bundled/facet make_tiny=$(BUILD)/make_tiny \
	  $(foreach program,gpu_bench test_kernels test_curves,gpu/$(program)=$(BUILD)/gpu/bundled/$(program))

nvcc-check: $(CUDA_OBJECTS) $(NVCC_TEST_OBJECTS) $(GPU_TESTS) ## compile the kernels, and the tests that run on a GPU, by nvcc
gpu-tests: $(GPU_TESTS) ## build the tests that run on a GPU, for CUDA_ARCHITECTURES (sm_90: Hopper)
gpu-check: gpu-tests cuda $(BUILD)/make_tiny ## run them on a GPU, and compute-sanitizer over them; logs in LOGS (build/gpu/logs)
	@BUILD=$(BUILD) scripts/gpu_check.sh $(or $(LOGS),$(BUILD)/gpu/logs)

else

CUDA_CHOICE := none: $(wordlist 2,99,$(FOUND_CUDA))
cuda:
	@echo "--device cuda cannot be built: $(wordlist 2,99,$(FOUND_CUDA))" >&2; exit 1
nvcc-check:
	@echo "the kernels were compiled by $(CXX) only: $(wordlist 2,99,$(FOUND_CUDA))"
gpu-tests gpu-check gpu-bundle:
	@echo "the tests on a GPU cannot be built: $(wordlist 2,99,$(FOUND_CUDA))" >&2; exit 1

endif

# Relinks the program when the architectures change.
$(BUILD)/facet: $(BUILD)/cuda_choice
$(BUILD)/cuda_choice: FORCE
	@mkdir -p $(@D)
	@echo "$(strip $(CUDA_CHOICE))" | cmp -s - $@ || { echo "  CUDA: $(strip $(CUDA_CHOICE))"; echo "$(strip $(CUDA_CHOICE))" > $@; }

.PHONY: nvcc-check cuda gpu-tests gpu-check gpu-bundle FORCE

-include $(shell find $(BUILD)/nvcc -name '*.d' 2>/dev/null)
