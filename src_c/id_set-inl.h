#ifndef FARANN_ID_SET_INL_H
#define FARANN_ID_SET_INL_H

/* Whether an id is in a set: what each row that may be an answer is asked, so it is inlined. */

#include "select.h"

/* The golden ratio scatters ids that follow each other, and those at equal distances. */
static inline uint64_t scattered(int64_t id) { return (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15); }

/* The three marks that an id sets in one word, as others may. */
static inline uint32_t *marks_of(const farann_id_set *set, int64_t id, uint32_t *marks) {
    const int words = set->bits < 3 ? 0 : set->bits - 3;
    const uint64_t hash = scattered(id), left = hash << words;
    *marks = UINT32_C(1) << (left >> 59) | UINT32_C(1) << (left >> 54 & 31) |
             UINT32_C(1) << (left >> 49 & 31);
    return set->places + ((int64_t)1 << set->bits) + (words ? hash >> (64 - words) : 0);
}

/* Where an id is, or the free place where it would be. */
static inline uint32_t *place_of(const farann_id_set *set, int64_t id) {
    const uint64_t last = ((uint64_t)1 << set->bits) - 1;
    uint64_t at = scattered(id) >> (64 - set->bits);
    while (set->places[at] && set->ids[set->places[at] - 1] != id) at = (at + 1) & last;
    return &set->places[at];
}

/* Most ids are told by their marks, without a look at places and ids that caches don't hold. */
static inline int is_in_set(const farann_id_set *set, int64_t id) {
    uint32_t marks;
    const uint32_t *word = marks_of(set, id, &marks);
    return (*word & marks) == marks && *place_of(set, id);
}

#endif
