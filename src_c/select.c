#include "select.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "portable.h"

/* The golden ratio scatters consecutive ids, and ids at equal distances. */
static uint64_t scattered(int64_t id) { return (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15); }

/* The three marks that an id sets in one word, as others may. */
static uint32_t *marks_of(const farann_id_set *set, int64_t id, uint32_t *marks) {
    const int words = set->bits < 3 ? 0 : set->bits - 3;
    const uint64_t hash = scattered(id), left = hash << words;
    *marks = UINT32_C(1) << (left >> 59) | UINT32_C(1) << (left >> 54 & 31) |
             UINT32_C(1) << (left >> 49 & 31);
    return set->places + ((int64_t)1 << set->bits) + (words ? hash >> (64 - words) : 0);
}

/* Where an id is, or the free place where it would be. */
static uint32_t *place_of(const farann_id_set *set, int64_t id) {
    const uint64_t last = ((uint64_t)1 << set->bits) - 1;
    uint64_t at = scattered(id) >> (64 - set->bits);
    while (set->places[at] && set->ids[set->places[at] - 1] != id) at = (at + 1) & last;
    return &set->places[at];
}

/* Whether an id is in a set. The marks, which caches hold, answer for most ids. */
static int is_in_set(const farann_id_set *set, int64_t id) {
    uint32_t marks;
    const uint32_t *word = marks_of(set, id, &marks);
    return (*word & marks) == marks && *place_of(set, id);
}

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

int farann_filter_allows(const farann_filter *filter, int64_t slot) {
    int allowed = !filter->live || filter->live[slot] != 0; /* without a branch */
    if (filter->groups) allowed &= filter->groups[slot] != filter->group;
    if (!filter->excluded.bits) return allowed;
    return allowed && !is_in_set(&filter->excluded, filter->ids ? filter->ids[slot] : slot);
}

/* The last of the best scores, or -inf while there is room for more. */
static float last_of(const farann_best_scores *best) {
    return best->count == best->capacity ? best->scores[best->count - 1] : -INFINITY;
}

/* Scores are few, see FEW_SORTED, and where the new one belongs is unpredictable: no branch. */
static void add_to_best(farann_best_scores *best, float score) {
    float *sorted = best->scores;
    if (best->count < best->capacity) sorted[best->count++] = -INFINITY;
    for (int64_t at = best->count - 1; at > 0; at--) {
        const float less = sorted[at - 1] < score ? sorted[at - 1] : score;
        sorted[at] = sorted[at] > less ? sorted[at] : less;
    }
    sorted[0] = sorted[0] > score ? sorted[0] : score;
}

void farann_candidates_admit(farann_candidates *list, int64_t from, const farann_block *block,
                             const farann_filter *filter, farann_best_scores *best, double margin,
                             double sure, double ceiling) {
    float *FARANN_RESTRICT scores = list->scores;
    int64_t *FARANN_RESTRICT slots = list->slots;
    const int64_t count = list->count, end = block->end;
    const int notes = best->capacity > 0;
    float last = notes ? last_of(best) : -INFINITY;
    int64_t kept = from;
    for (int64_t i = from; i < count; i++) {
        const float score = scores[i];
        if ((double)score < (double)last - margin || (double)score > ceiling) continue;
        const int64_t slot = farann_slot_of(block, slots[i]);
        if (slot < 0 || slot >= end || !farann_filter_allows(filter, slot)) continue;
        scores[kept] = score;
        slots[kept++] = slot;
        if (!notes || !(score > last) || !((double)score < sure)) continue;
        add_to_best(best, score);
        last = last_of(best);
    }
    list->count = kept;
}

/*
 * Which rows are allowed is unpredictable, so there is no branch. All slots are fetched together,
 * and then all their marks, so that each fetch is waited for once.
 */
void farann_candidates_drop(farann_candidates *list, int64_t from, const farann_block *block,
                            const farann_filter *filter) {
    float *FARANN_RESTRICT scores = list->scores;
    int64_t *FARANN_RESTRICT slots = list->slots;
    int64_t kept = from, count = list->count, end = block->end;
    for (int64_t i = from; block->slots && i < count; i++) FARANN_PREFETCH(block->slots + slots[i]);
    for (int64_t i = from; filter->live && i < count; i++) {
        const int64_t slot = farann_slot_of(block, slots[i]);
        FARANN_PREFETCH(filter->live + (((slot >= 0) & (slot < end)) ? slot : 0));
    }
    for (int64_t i = from; i < count; i++) {
        const int64_t row = slots[i], slot = farann_slot_of(block, row);
        scores[kept] = scores[i];
        slots[kept] = row;
        kept += slot >= 0 && slot < end && farann_filter_allows(filter, slot);
    }
    list->count = kept;
}

int64_t farann_candidates_split(farann_candidates *list, double floor, double best) {
    float *FARANN_RESTRICT scores = list->scores;
    int64_t *FARANN_RESTRICT slots = list->slots;
    const int64_t count = list->count;
    int64_t kept = 0, first = 0;
    for (int64_t i = 0; i < count; i++) { /* which are dropped is unpredictable: no branch */
        scores[kept] = scores[i];
        slots[kept] = slots[i];
        kept += !((double)scores[kept] < floor);
    }
    list->count = kept;
    if (best == INFINITY) return kept;
    for (int64_t i = 0; i < kept; i++) { /* nor here: the others change places with themselves */
        const float score = scores[i];
        const int64_t slot = slots[i], is_less = (double)score < best;
        const int64_t at = is_less ? first : i;
        scores[i] = scores[at];
        slots[i] = slots[at];
        scores[at] = score;
        slots[at] = slot;
        first += is_less;
    }
    return first;
}

/* Entries below which insertion sorts. */
enum { FARANN_FEW_ENTRIES = 24 };

/* Without a branch: which of two is worse is unpredictable. */
static int is_worse(farann_entry a, farann_entry b) {
    return (a.key < b.key) | ((a.key == b.key) & (a.id > b.id));
}

/* Put `entry` at the hole `i` of a heap of n entries, worst on top, and let it sink. */
static void sink(farann_entry *entries, int64_t n, int64_t i, farann_entry entry) {
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n) child += is_worse(entries[child + 1], entries[child]);
        if (!is_worse(entries[child], entry)) break;
        entries[i] = entries[child];
        i = child;
    }
    entries[i] = entry;
}

void farann_topk_push(farann_topk *top, double key, int64_t id) {
    farann_entry entry = {key, id};
    farann_entry *entries = top->entries;
    if (top->count == top->capacity) {
        if (is_worse(entries[0], entry)) sink(entries, top->count, 0, entry);
        return;
    }
    entries[top->count++] = entry;
    if (top->count < top->capacity) return;
    for (int64_t i = top->count / 2; i-- > 0;) sink(entries, top->count, i, entries[i]);
}

void farann_topk_push_rows(farann_topk *top, const double *keys, const int64_t *rows, int64_t n,
                           double sign, const farann_block *block, const farann_filter *filter) {
    for (int64_t i = 0; i < n; i++) {
        const double key = sign * keys[i];
        if (top->count == top->capacity && key < top->entries[0].key) continue;
        const int64_t slot = farann_slot_of(block, rows ? rows[i] : i);
        const farann_entry entry = {key, block->ids ? block->ids[slot] : slot};
        /* Cheaper than the filter, and most tied rows end here. */
        if (top->count == top->capacity && !is_worse(top->entries[0], entry)) continue;
        if (farann_filter_allows(filter, slot)) farann_topk_push(top, entry.key, entry.id);
    }
}

double farann_grouped_push(farann_grouped kept, farann_entry entry, int32_t group) {
    farann_entry *entries = kept.top->entries;
    int32_t *groups = kept.groups;
    int64_t count = kept.top->count, at = 0, end = count, own = 0, last;
    while (at < end) {
        const int64_t middle = at + (end - at) / 2;
        if (is_worse(entry, entries[middle]))
            at = middle + 1;
        else
            end = middle;
    }
    for (int64_t i = 0; i < count; i++) own += groups[i] == group;
    last = own < kept.most ? count : -1; /* where the entry that may have to go is */
    if (own == kept.most)
        for (last = count - 1; groups[last] != group;) last--;
    else if (count == kept.top->capacity)
        last--;
    if (at <= last) {
        own += last == count || groups[last] != group;
        memmove(entries + at + 1, entries + at, (size_t)(last - at) * sizeof *entries);
        memmove(groups + at + 1, groups + at, (size_t)(last - at) * sizeof *groups);
        entries[at] = entry;
        groups[at] = group;
        if (last == count) kept.top->count = ++count;
    }
    if (own == kept.most) { /* no later than the last of all */
        for (last = count - 1; groups[last] != group;) last--;
        return entries[last].key;
    }
    return count == kept.top->capacity ? entries[count - 1].key : -INFINITY;
}

void farann_grouped_push_rows(farann_grouped kept, const int32_t *by_slot, const double *keys,
                              const int64_t *rows, int64_t n, double sign,
                              const farann_block *block, const farann_filter *filter) {
    const farann_topk *top = kept.top;
    for (int64_t i = 0; i < n; i++) {
        const double key = sign * keys[i];
        const int full = top->count == top->capacity;
        if (full && key < top->entries[top->count - 1].key) continue;
        const int64_t slot = farann_slot_of(block, rows ? rows[i] : i);
        const farann_entry entry = {key, block->ids ? block->ids[slot] : slot};
        if (full && !is_worse(top->entries[top->count - 1], entry)) continue;
        if (farann_filter_allows(filter, slot)) farann_grouped_push(kept, entry, by_slot[slot]);
    }
}

void farann_grouped_admit(farann_candidates *list, int64_t from, const int32_t *by_slot,
                          farann_grouped floors, double slack) {
    const farann_topk *top = floors.top;
    int64_t count = from;
    for (int64_t i = from; i < list->count; i++) {
        const double score = (double)list->scores[i], most = score + slack;
        const int64_t slot = list->slots[i];
        const farann_entry entry = {score - slack, slot};
        if (top->count == top->capacity && most < top->entries[top->count - 1].key) continue;
        if (most < farann_grouped_push(floors, entry, by_slot[slot])) continue;
        list->scores[count] = list->scores[i];
        list->slots[count++] = slot;
    }
    list->count = count;
}

static void sort_by_insertion(farann_entry *entries, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        const farann_entry entry = entries[i];
        int64_t at = i;
        for (; at > 0 && is_worse(entries[at - 1], entry); at--) entries[at] = entries[at - 1];
        entries[at] = entry;
    }
}

/* The rank of a key, smaller for better keys, or of an id. */
static uint64_t rank_of(farann_entry entry, int by_id) {
    const double key = entry.key + 0.0; /* never -0.0 */
    uint64_t bits;
    memcpy(&bits, &key, sizeof bits);
    return by_id ? (uint64_t)entry.id : bits >> 63 ? bits : bits ^ INT64_MAX;
}

/* Halve the range of ranks until few entries share one: 128 times at most, whatever keys are. */
static void sort_by_rank(farann_entry *entries, int64_t n, int by_id, const int64_t *given_up) {
    while (n > FARANN_FEW_ENTRIES && !farann_is_up(given_up)) {
        uint64_t least = UINT64_MAX, most = 0;
        for (int64_t i = 0; i < n; i++) {
            const uint64_t rank = rank_of(entries[i], by_id);
            least = rank < least ? rank : least;
            most = rank > most ? rank : most;
        }
        int64_t better = 0;
        const uint64_t middle = least + (most - least) / 2;
        for (int64_t i = 0; i < n; i++) {
            const farann_entry entry = entries[i];
            entries[i] = entries[better];
            entries[better] = entry;
            better += rank_of(entry, by_id) <= middle;
        }
        if (better == n) { /* all keys are equal */
            if (by_id) return;
            by_id = 1;
            continue;
        }
        sort_by_rank(entries, better, by_id, given_up);
        entries += better;
        n -= better;
    }
    sort_by_insertion(entries, n <= FARANN_FEW_ENTRIES ? n : 0);
}

/* Bits of a digit of places, and entries from which on they are sorted by two digits. */
enum { FARANN_DIGIT = 11, FARANN_DIGITS = 1 << FARANN_DIGIT, FARANN_MANY_ENTRIES = 512 };

/* Where a key lies between the best one and the least, in steps: rounding keeps the order. */
static uint32_t place_between(double best, farann_entry entry, double steps) {
    return (uint32_t)((best - entry.key) * steps);
}

/* The start of each digit's entries, from how many there are of each. */
static void starts_of(uint32_t *counts) {
    uint32_t start = 0;
    for (int digit = 0; digit < FARANN_DIGITS; digit++) {
        const uint32_t count = counts[digit];
        counts[digit] = start;
        start += count;
    }
}

void farann_entries_sort(farann_entry *entries, int64_t n, farann_entry *scratch,
                         const int64_t *given_up) {
    double best = -INFINITY, least = INFINITY;
    int by_digits = scratch && n >= FARANN_MANY_ENTRIES && n <= UINT32_MAX;
    for (int64_t i = 0; by_digits && i < n; i++) {
        by_digits &= entries[i].key == entries[i].key;
        best = entries[i].key > best ? entries[i].key : best;
        least = entries[i].key < least ? entries[i].key : least;
    }
    const double steps = (FARANN_DIGITS * FARANN_DIGITS - 1) / (best - least);
    /* Not by digits where keys are few or equal, or hardly differ, or one is no number. */
    if (!by_digits || !(steps > 0.0 && steps <= DBL_MAX)) {
        sort_by_rank(entries, n, 0, given_up);
        return;
    }
    uint32_t low[FARANN_DIGITS] = {0}, high[FARANN_DIGITS] = {0};
    for (int64_t i = 0; i < n; i++) {
        const uint32_t place = place_between(best, entries[i], steps);
        low[place % FARANN_DIGITS]++;
        high[place >> FARANN_DIGIT]++;
    }
    starts_of(low);
    starts_of(high);
    for (int64_t i = 0; i < n; i++)
        scratch[low[place_between(best, entries[i], steps) % FARANN_DIGITS]++] = entries[i];
    for (int64_t i = 0; i < n; i++)
        entries[high[place_between(best, scratch[i], steps) >> FARANN_DIGIT]++] = scratch[i];
    for (int64_t from = 0, end; from < n && !farann_is_up(given_up); from = end) {
        const uint32_t place = place_between(best, entries[from], steps);
        for (end = from + 1; end < n && place_between(best, entries[end], steps) == place;) end++;
        sort_by_rank(entries + from, end - from, 0, given_up); /* those at one place */
    }
}
