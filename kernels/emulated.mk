# The CUDA kernels on the CPU, three times: build/emulated/plain, sanitized (AddressSanitizer and UBSan, and gcov's counters
# in the kernels) and race (the compiler's calls for ThreadSanitizer arrive in src/emulated/kernels/race_check.cpp).
# Included by the Makefile.

EMULATED_SOURCES := $(wildcard src/emulated/device/*.cpp src/device/cuda/*.cpp src/emulated/kernels/*.cpp) $(wildcard kernels/cuda/*.cu) \
  $(filter-out kernels/cuda/launch_error.cpp kernels/cuda/cudnn_%,$(wildcard kernels/cuda/*.cpp))
KERNEL_TEST_SOURCES := $(wildcard tests/kernels/*.cpp) tests/device/cuda/emulation.cpp $(filter-out tests/kernels/bare_shared.cu,$(wildcard tests/kernels/*.cu))
RACE_CHECK := src/emulated/kernels/race_check.cpp
# The collectives on device memory; NCCL is emulated over MPI.
COMM_SOURCES := $(wildcard src/emulated/device/*.cpp src/emulated/kernels/*.cpp src/comm/cuda/*.cpp src/emulated/comm/*.cpp) $(addprefix src/device/cuda/,page_lock.cpp stream.cpp)
COMM_TEST_SOURCES := $(wildcard tests/comm/cuda/*.cpp) tests/device/cuda/emulation.cpp

emulated_flags_plain     :=
emulated_flags_sanitized := -O1 -U_FORTIFY_SOURCE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
emulated_flags_race      := -O1 -U_FORTIFY_SOURCE
kernel_flags_race        := -fsanitize=thread
kernel_flags_sanitized   := --coverage
emulated_link_sanitized  := -fsanitize=address,undefined --coverage

# $(1): variant, $(2): sources. The race check is in the kernels alone: all else is linked as it is in plain.
in_variant       = $(patsubst %,$(BUILD)/emulated/$(1)/obj/%.o,$(basename $(2)))
emulated_objects = $(if $(filter race,$(1)),$(call in_variant,race,$(RACE_CHECK) $(filter %.cu,$(2))) \
                     $(call in_variant,plain,$(filter-out %.cu $(RACE_CHECK),$(2))),$(call in_variant,$(1),$(filter-out $(RACE_CHECK),$(2))))

EMULATED_CXX      = $(CXX) $(CXXFLAGS_ALL) -DFACET_EMULATED $(emulated_flags_$(1))
EMULATED_TEST_CXX = $(CXX) $(TEST_FLAGS) -DFACET_EMULATED $(emulated_flags_$(1))

# Tensor maps are passed by value, and GCC changed how in 2010.
CU_WARNINGS := -Wno-unknown-pragmas -Wno-psabi

define emulated_variant
$(call precompiled_headers,$(BUILD)/emulated/$(1)/obj,$(call EMULATED_CXX,$(1)),$(call EMULATED_TEST_CXX,$(1)))

$(BUILD)/emulated/$(1)/obj/%.o: %.cpp $(call precompiled,$(BUILD)/emulated/$(1)/obj,sources)
	@mkdir -p $$(@D)
	@echo "  c++   $$< ($(1))"
	@$(TIMED) $$< $(call EMULATED_CXX,$(1)) $(call include_precompiled,$(BUILD)/emulated/$(1)/obj,sources) -c -o $$@ $$<

$(BUILD)/emulated/$(1)/obj/tests/%.o: tests/%.cpp $(call precompiled,$(BUILD)/emulated/$(1)/obj,tests)
	@mkdir -p $$(@D)
	@echo "  c++   $$< ($(1))"
	@$(TIMED) $$< $(call EMULATED_TEST_CXX,$(1)) $(call include_precompiled,$(BUILD)/emulated/$(1)/obj,tests) -c -o $$@ $$<

$(BUILD)/emulated/$(1)/obj/%.o: %.cu
	@mkdir -p $$(@D)
	@echo "  c++   $$< ($(1))"
	@$(TIMED) $$< $(call EMULATED_CXX,$(1)) $(kernel_flags_$(1)) $(CU_WARNINGS) -x c++ -c -o $$@ $$<

$(BUILD)/emulated/test_kernels$(2): $(call emulated_objects,$(1),$(EMULATED_SOURCES) $(KERNEL_TEST_SOURCES)) $(LIBRARY)
	@echo "  link  $$@"
	@$(CXX) $(LDFLAGS_ALL) $(emulated_link_$(1)) -o $$@ $$(filter %.o,$$^) $(LIBRARY) $(LIBS) -lgtest

$(BUILD)/emulated/test_comm$(2): $(call emulated_objects,$(1),$(COMM_SOURCES) $(COMM_TEST_SOURCES)) $(BUILD)/obj/tests/test_main.o $(LIBRARY)
	@echo "  link  $$@"
	@$(CXX) $(LDFLAGS_ALL) $(emulated_link_$(1)) -o $$@ $$(filter %.o,$$^) $(LIBRARY) $(LIBS) -lgtest
endef
$(eval $(call emulated_variant,plain,))
$(eval $(call emulated_variant,sanitized,_sanitized))
$(eval $(call emulated_variant,race,_race))

KERNEL_TEST_PROGRAMS := $(BUILD)/emulated/test_kernels $(BUILD)/emulated/test_kernels_sanitized $(BUILD)/emulated/test_kernels_race
COMM_TEST_PROGRAMS := $(BUILD)/emulated/test_comm $(BUILD)/emulated/test_comm_race

kernel-tests: $(KERNEL_TEST_PROGRAMS) $(COMM_TEST_PROGRAMS) ## build the kernels' tests: plain, sanitized, race check

check-kernels: kernel-tests ## run the CUDA kernels' tests on the CPU
	@for program in $(KERNEL_TEST_PROGRAMS); do echo "== $$program"; $$program || exit 1; done

check-kernels-full: kernel-tests ## the same for every size, type, attention mode and head width
	@for program in $(KERNEL_TEST_PROGRAMS); do echo "== $$program"; FACET_WHOLE_MATRIX=1 $$program || exit 1; done

# Mutants are compiled with these commands and linked with these objects.
define mutate_environment
COMPILE_$(1)='$(call EMULATED_CXX,$(1)) $(kernel_flags_$(1)) $(CU_WARNINGS)' \
LINK_$(1)='$(CXX) $(LDFLAGS_ALL) $(emulated_link_$(1)) {objects} $(LIBRARY) $(LIBS) -lgtest' \
OBJECTS_$(1)='$(call emulated_objects,$(1),$(EMULATED_SOURCES) $(KERNEL_TEST_SOURCES))'
endef

mutate: kernel-tests ## mutate the CUDA kernels in MUTANTS places (or all) and count the mutants that no test kills
	@$(call mutate_environment,plain) $(call mutate_environment,sanitized) $(call mutate_environment,race) \
	  BUILD=$(BUILD) MUTANTS=$(MUTANTS) ONLY=$(ONLY) $(PYTHON) scripts/mutate.py

# The program on the emulation, for tests.
EMULATED_PROGRAM_SOURCES := $(sort $(EMULATED_SOURCES) $(COMM_SOURCES) $(filter-out kernels/cuda/launch_error.cpp kernels/cuda/cudnn_%,$(CUDA_CPP_SOURCES)))
$(BUILD)/emulated/facet: $(call emulated_objects,plain,$(EMULATED_PROGRAM_SOURCES)) $(BUILD)/obj/src/main.o $(BUILD)/obj/git_version.o $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS)

# Training curves on the emulated device.
CURVE_TEST_OBJECTS := $(call emulated_objects,plain,$(filter-out src/train/cuda/gpu.cpp,$(EMULATED_PROGRAM_SOURCES)) tests/golden/cuda/curve_test.cpp tests/device/cuda/emulation.cpp) \
                      $(addprefix $(BUILD)/obj/tests/,golden/curve_rig.o golden/golden_file.o test_main.o)
$(BUILD)/emulated/test_curves: $(CURVE_TEST_OBJECTS) $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) -lgtest

# The benchmark of the GPU, with tiny sizes, for tests.
$(BUILD)/emulated/gpu_bench: $(call emulated_objects,plain,$(EMULATED_PROGRAM_SOURCES) $(GPU_BENCH_SOURCES) tests/bench/gpu/device_clock_emulated.cpp) \
                             $(BUILD)/obj/git_version.o $(LIBRARY)
	@echo "  link  $@"
	@$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS)

.PHONY: kernel-tests check-kernels check-kernels-full mutate

-include $(shell find $(BUILD)/emulated -name '*.d' 2>/dev/null)
