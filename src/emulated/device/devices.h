// The emulated devices: one per process.
//
// FACET_EMULATED_STREAMS says when work on its streams runs: at_once (default), late (as late as
// events and synchronisations allow) or a number, the seed of a random order in between. Read by
// cudaSetDevice.
#pragma once

#include <cstddef>

#include "emulated/device/cuda_runtime.h"

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor;
};

enum cudaDeviceAttr { cudaDevAttrClockRate = 13, cudaDevAttrMultiProcessorCount = 16 };

cudaError_t cudaGetDeviceCount(int* devices);
cudaError_t cudaSetDevice(int device);
// Of one multiprocessor at 1 GHz.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
