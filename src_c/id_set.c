#include "id_set-inl.h"

/* The binary logarithm of the number of places for n ids, at least 2 n; 0 for n == 0. */
static int bits_for(int64_t n) {
    int bits = 0;
    while (n && (int64_t)1 << bits < 2 * n) bits++;
    return bits;
}

/* Words of marks behind the places, four marks for each of these. */
static int64_t mark_words(int bits) { return bits < 3 ? 1 : (int64_t)1 << (bits - 3); }

int64_t farann_id_set_room(int64_t n) {
    const int bits = bits_for(n);
    return bits ? ((int64_t)1 << bits) + mark_words(bits) : 0;
}

void farann_id_set_fill(farann_id_set *set, const int64_t *ids, int64_t n, uint32_t *places) {
    set->ids = ids;
    set->places = places;
    set->bits = bits_for(n);
    for (int64_t i = 0; i < n; i++) {
        uint32_t marks, *word;
        if (ids[i] < 0) continue;
        word = marks_of(set, ids[i], &marks);
        *word |= marks;
        *place_of(set, ids[i]) = (uint32_t)(i + 1);
    }
}
