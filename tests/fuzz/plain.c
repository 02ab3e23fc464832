/* Runs what core/ has for libFuzzer on random bytes, without it: `make test` has this. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int main(void) {
    static uint8_t data[4096];
    uint64_t state = 1;
    LLVMFuzzerInitialize(NULL, NULL);
    for (int round = 0; round < 10000; round++) {
        for (size_t i = 0; i < sizeof data; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            data[i] = (uint8_t)(state >> 56);
        }
        LLVMFuzzerTestOneInput(data, sizeof data);
    }
    return 0;
}
