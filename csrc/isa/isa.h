// Instruction set levels: those that this machine can run, and the one in use. Kernels are chosen only here.
#pragma once

#include <string>
#include <vector>

#include "isa/kernels.h"

namespace edgead {

// Levels that this build contains and this machine (CPU and operating system) can run, plain to wide.
const std::vector<const Kernels*>& available_kernels();

// The kernels of the level called `level`, or the chosen ones for an empty name.
// Throws std::invalid_argument, listing what this machine can run, for any other name.
const Kernels& find_kernels(const std::string& level);

// Those of the widest available level, or of the one that EDGEAD_ISA names. Throws like find_kernels.
const Kernels& chosen_kernels();

}  // namespace edgead
