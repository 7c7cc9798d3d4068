# The product's half for GPUs, where nvcc is. CUDA=none leaves it out. Included by the Makefile.
#
#   CUDA_ARCHITECTURES   what the kernels are compiled for: sm_XX machine code, compute_XX text for newer GPUs

NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),auto,none)
CUDA_ARCHITECTURES ?= sm_80 sm_90 compute_90

NVCC_FLAGS = -std=c++20 -O2 -Isrc -I. -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror \
             $(foreach a,$(CUDA_ARCHITECTURES),-gencode arch=$(subst sm_,compute_,$(a)),code=$(a))

empty :=
# Objects for other architectures lie elsewhere.
NVCC_BUILD := $(BUILD)/nvcc/$(subst $(empty) $(empty),+,$(strip $(CUDA_ARCHITECTURES)))

KERNEL_SOURCES := $(wildcard kernels/cuda/*.cu)
# C++ that sees CUDA's or NCCL's headers, or the emulation in their place (kernels/emulated.mk).
CUDA_CPP_SOURCES := $(wildcard src/device/cuda/*.cpp kernels/cuda/*.cpp src/comm/cuda/*.cpp) src/train/cuda/gpu.cpp

$(NVCC_BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  nvcc  $<"
	@$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<

ifeq ($(CUDA),none)

cuda:
	@echo "no nvcc is here: --device cuda needs it (CUDA 12.0 or newer)" >&2; exit 1
nvcc-check:
	@echo "no nvcc is here: the kernels were compiled by $(CXX) only"

else

CUDA_HOME  ?= $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
CUDA_LIB   ?= $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/lib))
NCCL_FLAGS ?= $(if $(shell $(CXX) -I$(CUDA_HOME)/include -E -include nccl.h -x c++ /dev/null >/dev/null 2>&1 && echo yes),-DFACET_NCCL)
CUDA_FLAGS  = -isystem $(CUDA_HOME)/include $(NCCL_FLAGS) -DFACET_CUDA_ARCHITECTURES='"$(strip $(CUDA_ARCHITECTURES))"'
CUDA_LIBS   = -L$(CUDA_LIB) -Wl,-rpath,$(CUDA_LIB) -lcudart -lcublasLt $(if $(NCCL_FLAGS),-lnccl)

CUDA_OBJECTS := $(KERNEL_SOURCES:%.cu=$(NVCC_BUILD)/%.o) $(CUDA_CPP_SOURCES:%.cpp=$(NVCC_BUILD)/%.o)

$(NVCC_BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  c++   $< (cuda)"
	@$(CXX) $(CXXFLAGS_ALL) $(CUDA_FLAGS) -c -o $@ $<

# In the program these come before the library, which has without_gpu.o in the place of gpu.o.
$(BUILD)/facet: $(CUDA_OBJECTS)
$(BUILD)/facet: GPU_LIBS = $(CUDA_LIBS)

NVCC_TEST_OBJECTS := $(patsubst %.cu,$(NVCC_BUILD)/%.o,$(wildcard tests/kernels/*.cu))

cuda: $(BUILD)/facet ## the program, its kernels compiled for all of CUDA_ARCHITECTURES
nvcc-check: $(CUDA_OBJECTS) $(NVCC_TEST_OBJECTS) ## compile the kernels, and those of their tests, by nvcc

endif

# The program is linked again when it is to have other architectures, or none.
$(BUILD)/facet: $(BUILD)/cuda_choice
$(BUILD)/cuda_choice: FORCE
	@mkdir -p $(@D)
	@echo "$(if $(filter none,$(CUDA)),none,$(CUDA_ARCHITECTURES))" | cmp -s - $@ || \
	  echo "$(if $(filter none,$(CUDA)),none,$(CUDA_ARCHITECTURES))" > $@

.PHONY: nvcc-check cuda FORCE

-include $(shell find $(BUILD)/nvcc -name '*.d' 2>/dev/null)
