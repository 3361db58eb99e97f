/* C interface of the kernels: exact nearest rows of a memory bank, and smoothing of maps. See docs/kernels.md.
 *
 * Errors: a function that returns int gives 0, or -1 for an error; edgead_index_new gives NULL for one.
 * edgead_last_error gives the error's text. No C++ exception leaves a function.
 *
 * Threads: all functions may be called from several threads at once, edgead_search with the same index too. Only
 * edgead_index_free must come after the last search in that index has returned. A call shares its work among as many
 * threads as the environment variable EDGEAD_THREADS says, else the CPUs that the process may use; they wait for the
 * next call and are never joined.
 *
 * Processors: the widest instruction set level of the machine is chosen when the program runs, or the one that
 * EDGEAD_ISA names. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* also where the static library becomes part of a shared one */

typedef struct edgead_index edgead_index;

/* Prepares a search. `bank`: (rows, columns) finite numbers, row by row; 1 <= rows < 2^31, 1 <= columns <= 2^20. It is
 * not copied: it must outlive the index, unchanged. */
edgead_index* edgead_index_new(const float* bank, size_t rows, size_t columns);

/* NULL does nothing. */
void edgead_index_free(edgead_index* index);

/* Finds the k nearest rows of the bank for each of `count` features (count, columns); 1 <= k <= 16, at most the bank's
 * rows. `distance` and `row`: (count, k), ascending by distance, the lowest row first in a tie. A distance is the
 * Euclidean one in float64, rounded to float32. Features with NaN or infinity are an error, and what was written then
 * means nothing. */
int edgead_search(const edgead_index* index, const float* features, size_t count, int k, float* distance, int32_t* row);

/* Resizes patch scores (input_height, input_width) to a map (height, width), bilinear with half-pixel centres, and blurs
 * it by a Gaussian of `sigma` pixels of the map, 0 (none) to 1000, truncated at ceil(4 sigma); its border is mirrored.
 * No side is longer than 2^20. Scores with NaN or infinity are an error. `map` shares no memory with `scores`. `maximum`, where it is not NULL, gets the map's largest value. */
int edgead_smooth(const float* scores, int input_height, int input_width, double sigma, float* map, int height,
                  int width, float* maximum);

/* What was wrong in the last call of this thread that failed, in English; never NULL. Valid until the next one fails. */
const char* edgead_last_error(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
