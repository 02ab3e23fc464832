#ifndef FARANN_CLOCK_H
#define FARANN_CLOCK_H

/* Seconds since some moment, by a monotonic clock. */
double farann_seconds(void);

#endif
