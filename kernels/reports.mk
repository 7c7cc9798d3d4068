# Reports of nvcc and gcov on the CUDA kernels. Included by the Makefile after kernels/cuda.mk and kernels/emulated.mk.

# ---- make kernel-report: what ptxas reports for every kernel, for each of CUDA_ARCHITECTURES with machine code
KERNEL_REPORTS := $(patsubst %.cu,$(NVCC_BUILD)/report/%.txt,$(KERNEL_SOURCES))
REPORT_CODE    := $(foreach a,$(filter sm_%,$(CUDA_ARCHITECTURES)),-gencode arch=$(subst sm_,compute_,$(a)),code=$(a))

$(NVCC_BUILD)/report/%.txt: %.cu
	@mkdir -p $(@D)
	@echo "  nvcc  $< ($(filter sm_%,$(CUDA_ARCHITECTURES)))"
	@$(NVCC) $(filter-out -gencode arch=%,$(NVCC_FLAGS)) $(REPORT_CODE) -Xptxas -v -MMD -MP -MT $@ -c -o $(@:.txt=.o) $< 2> $@.new
	@mv $@.new $@

kernel-report: $(if $(NVCC),$(KERNEL_REPORTS)) ## registers, shared memory and spills of every kernel (needs nvcc)
	@$(if $(NVCC),scripts/kernel_report.sh $(KERNEL_REPORTS),echo "nvcc is not installed: no registers to report")

# ---- make kernel-coverage: the plain program again, with counters in the kernels alone
COVERAGE      := $(BUILD)/emulated/coverage
COVERAGE_FLAGS = -O1 --coverage

$(COVERAGE)/obj/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  c++   $< (coverage)"
	@$(call EMULATED_CXX,plain) $(COVERAGE_FLAGS) -Wno-unknown-pragmas -x c++ -c -o $@ $<

COVERED_OBJECTS := $(KERNEL_SOURCES:%.cu=$(COVERAGE)/obj/%.o)
COVERAGE_PLAIN  := $(filter-out $(BUILD)/emulated/plain/obj/kernels/cuda/%,$(call emulated_objects,plain,$(EMULATED_SOURCES) $(KERNEL_TEST_SOURCES))) \
  $(call emulated_objects,plain,$(filter kernels/cuda/%.cpp,$(EMULATED_SOURCES)))

$(COVERAGE)/test_kernels: $(COVERED_OBJECTS) $(COVERAGE_PLAIN) $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) --coverage -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) -lgtest

kernel-coverage: $(COVERAGE)/test_kernels ## which lines of the CUDA kernels their tests execute
	@BUILD=$(BUILD) scripts/kernel_coverage.sh

.PHONY: kernel-report kernel-coverage
