/*
 * Runs what core/ has for libFuzzer on random bytes, without it: `make test` has this. An argument
 * says how many inputs.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 10000;
    static uint8_t data[4096];
    uint64_t state = 1;
    LLVMFuzzerInitialize(NULL, NULL);
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < sizeof data; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            data[i] = (uint8_t)(state >> 56);
        }
        LLVMFuzzerTestOneInput(data, sizeof data);
    }
    printf("%d inputs at", rounds);
    const farann_kernels *levels[FARANN_MOST_LEVELS];
    const int n_levels = farann_levels(levels);
    for (int i = 0; i < n_levels; i++) printf(" %s", levels[i]->name);
    printf("\n");
    return 0;
}
