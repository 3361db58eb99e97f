// Instruction set levels: which exist, which this machine can run, which one is used.
#pragma once

#include <string>
#include <vector>

namespace edgead {

// Ordered from plain to wide; each level's files are compiled with that level's flags and no other file is. A level
// with a dot product of bytes (dot, vnni) adds that to the level before it, and amx the products of whole tiles.
enum class Isa { baseline, neon, neondot, avx2, avxvnni, avx512, avx512vnni, amx };

// The level whose kernels work on floats at `isa`.
Isa float_level(Isa isa);

const char* isa_name(Isa isa);

// Levels that this build contains and this machine (CPU and operating system) can run, plain to wide.
const std::vector<Isa>& available_isas();

// The level called `name`, or the chosen one for an empty name.
// Throws std::invalid_argument, listing what this machine can run, for any other name.
Isa find_isa(const std::string& name);

// The widest available level, or the one that EDGEAD_ISA names. Throws like find_isa.
Isa chosen_isa();

}  // namespace edgead
