# Reports of nvcc and gcov on the CUDA kernels. Included by the Makefile after kernels/cuda.mk and kernels/emulated.mk.

# ---- make kernel-report: what ptxas reports for every kernel, for each of CUDA_ARCHITECTURES with machine code
comma := ,
KERNEL_REPORTS := $(patsubst %.cu,$(NVCC_BUILD)/report/%.txt,$(KERNEL_SOURCES))
$(NVCC_BUILD)/report/%: NVCC_CODE = $(call code_for,$(filter sm_%,$(CUDA_ARCHITECTURES)))
$(NVCC_BUILD)/report/%_hopper.txt: NVCC_CODE = $(call code_for,sm_90a)

$(NVCC_BUILD)/report/%.txt: %.cu
	@mkdir -p $(@D)
	@echo "  nvcc  $< ($(filter code=%,$(subst $(comma), ,$(NVCC_CODE))))"
	@$(NVCC) $(NVCC_FLAGS) -Xptxas -v -MMD -MP -MT $@ -c -o $(@:.txt=.o) $< 2> $@.new
	@mv $@.new $@

kernel-report: $(if $(NVCC),$(KERNEL_REPORTS)) ## registers, shared memory and spills of every kernel (needs nvcc)
	@$(if $(NVCC),scripts/kernel_report.sh $(KERNEL_REPORTS),echo "nvcc is not installed: no registers to report")

# ---- make kernel-loops: what the main loops of attention issue and how wide the memory-bound kernels' accesses are, from the
# machine code for the first sm_ of CUDA_ARCHITECTURES
NVDISASM ?= $(firstword $(shell command -v nvdisasm 2>/dev/null) $(wildcard $(dir $(NVCC))nvdisasm))
LOOP_ARCHITECTURE := $(firstword $(filter sm_%,$(CUDA_ARCHITECTURES)))
loop_cubins = $(patsubst %,$(BUILD)/nvcc/loops/$(LOOP_ARCHITECTURE)/%.cubin,$(1))
LOOP_CUBINS := $(call loop_cubins,attention_forward attention_backward $(if $(HOPPER),attention_forward_hopper attention_backward_hopper attention_backward_joint_hopper lora_product_hopper))
ACCESS_CUBINS := $(call loop_cubins,adamw attention_backward attention_decode cross_entropy dora gelu layer_norm lora resize_positions rms_norm rope rows \
  splice sum_rows swiglu swiglu_lora vector vision_embed)
$(LOOP_CUBINS) $(ACCESS_CUBINS): NVCC_CODE = -arch=$(LOOP_ARCHITECTURE)
$(filter %_hopper.cubin,$(LOOP_CUBINS)): NVCC_CODE = -arch=sm_90a

$(BUILD)/nvcc/loops/$(LOOP_ARCHITECTURE)/%.cubin: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo "  nvcc  $< ($(NVCC_CODE))"
	@$(NVCC) $(NVCC_FLAGS) -MMD -MP -MT $@ -cubin -o $@ $<

kernel-loops: $(if $(NVDISASM),$(sort $(LOOP_CUBINS) $(ACCESS_CUBINS))) ## attention's main loops and the 16-byte accesses of memory-bound kernels (needs nvcc, nvdisasm)
	@$(if $(NVDISASM),$(PYTHON) scripts/loop_counts.py $(NVDISASM) kernels/cuda/loops.txt $(LOOP_CUBINS),echo "nvdisasm is not installed: no loops to count")
	@$(if $(NVDISASM),$(PYTHON) scripts/access_counts.py $(NVDISASM) kernels/cuda/accesses.txt $(ACCESS_CUBINS))

# ---- make kernel-coverage: gcov's counters are in the kernels of the sanitized program
kernel-coverage: $(BUILD)/emulated/test_kernels_sanitized ## how many lines of the CUDA kernels their tests execute, and which they don't
	@BUILD=$(BUILD) scripts/kernel_coverage.sh

.PHONY: kernel-report kernel-loops kernel-coverage
