#ifdef _WIN32
#include <windows.h>
#else
#define _POSIX_C_SOURCE 200112L
#include <time.h>
#endif

#include "clock.h"

double farann_seconds(void) {
#ifdef _WIN32
    LARGE_INTEGER ticks, a_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&a_second);
    return (double)ticks.QuadPart / (double)a_second.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}
