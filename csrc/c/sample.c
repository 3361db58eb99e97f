/* Sample program: computes an anomaly map from an image's features and a memory bank, with the kernels alone.
 *
 *   sample bank.f32 features.f32 COLUMNS HEIGHT WIDTH SIGMA map.f32
 *
 * Files are float32 numbers of this machine, row by row: the bank, the features of HEIGHT x WIDTH patches, and the map,
 * which is eight times as high and as wide. Prints the largest value. The exit code is 0, or 1 for an error. */
#include <stdio.h>
#include <stdlib.h>

#include "edgead_kernels.h"

static float* read_floats(const char* name, size_t* count) {
    FILE* file = fopen(name, "rb");
    long bytes = -1;
    float* values = NULL;
    if (file && fseek(file, 0, SEEK_END) == 0) bytes = ftell(file);
    if (bytes > 0 && fseek(file, 0, SEEK_SET) == 0) values = malloc((size_t)bytes);
    *count = bytes > 0 ? (size_t)bytes / sizeof(float) : 0;
    if (!values || fread(values, sizeof(float), *count, file) != *count) {
        fprintf(stderr, "sample: %s cannot be read\n", name);
        exit(1);
    }
    fclose(file);
    return values;
}

static void fail(void) {
    fprintf(stderr, "sample: %s\n", edgead_last_error());
    exit(1);
}

int main(int count, char** words) {
    if (count != 8) {
        fprintf(stderr, "usage: sample bank.f32 features.f32 COLUMNS HEIGHT WIDTH SIGMA map.f32\n");
        return 1;
    }
    const size_t columns = strtoul(words[3], NULL, 10);
    const int height = atoi(words[4]), width = atoi(words[5]);
    size_t in_bank, in_features;
    float *bank = read_floats(words[1], &in_bank), *features = read_floats(words[2], &in_features);
    const size_t patches = (size_t)height * (size_t)width, pixels = 64 * patches;
    if (columns == 0 || height < 1 || width < 1 || in_bank % columns != 0 || in_features != patches * columns) {
        fprintf(stderr, "sample: the files do not have these sizes\n");
        return 1;
    }
    float *scores = malloc(patches * sizeof(float)), *map = malloc(pixels * sizeof(float)), maximum;
    int32_t* rows = malloc(patches * sizeof(int32_t));
    if (!scores || !map || !rows) {
        fprintf(stderr, "sample: there is not enough memory\n");
        return 1;
    }

    edgead_index* index = edgead_index_new(bank, in_bank / columns, columns); /* once */
    if (!index) fail();
    if (edgead_search(index, features, patches, 1, scores, rows) != 0) fail(); /* for each image */
    if (edgead_smooth(scores, height, width, atof(words[6]), map, 8 * height, 8 * width, &maximum) != 0) fail();
    printf("%.9g\n", maximum);

    FILE* file = fopen(words[7], "wb");
    if (!file || fwrite(map, sizeof(float), pixels, file) != pixels || fclose(file) != 0) {
        fprintf(stderr, "sample: %s cannot be written\n", words[7]);
        return 1;
    }
    edgead_index_free(index);
    free(rows);
    free(map);
    free(scores);
    free(features);
    free(bank);
    return 0;
}
