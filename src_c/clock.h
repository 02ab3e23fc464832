#ifndef FARANN_CLOCK_H
#define FARANN_CLOCK_H

/* Seconds since some moment, by a clock that nobody sets. */
double farann_seconds(void);

#endif
