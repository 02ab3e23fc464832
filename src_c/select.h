/* Selection, apart from scoring: candidates, and the answer itself. */
#ifndef FARANN_SELECT_H
#define FARANN_SELECT_H

#include <stdint.h>

/* Rows with rough scores; the owner allocates, with room for a whole block of rows more. */
typedef struct {
    float *scores;
    int64_t *slots;
    int64_t count;
} farann_candidates;

/* The `capacity` largest scores that were seen, best first. */
typedef struct {
    float *scores;
    int64_t capacity, count;
} farann_best_scores;

/* A row with its exact key, sign applied so that larger is better. */
typedef struct {
    double key;
    int64_t id;
} farann_entry;

/* The best `capacity` entries seen: once there are as many, a heap with the worst on top. */
typedef struct {
    farann_entry *entries;
    int64_t capacity, count;
} farann_topk;

/*
 * A block of rows as the index knows them: row i of the block has the slot slots[i], or where
 * that is NULL first + (positions ? positions[i] : i), and the id ids[slot], or the slot where
 * ids is NULL. A slot below 0 or from `end` on is no row: it fills up a panel.
 */
typedef struct {
    int64_t first;
    const int64_t *positions;
    const int32_t *slots;
    const int64_t *ids;
    int64_t end;
} farann_block;

static inline int64_t farann_slot_of(const farann_block *block, int64_t row) {
    if (block->slots) return block->slots[row];
    return block->first + (block->positions ? block->positions[row] : row);
}

/*
 * A set of ids: an open hash table over a list that it doesn't copy. A place holds one more than
 * where in the list its id is, or 0. `bits` is the logarithm of the number of places; 0: no set.
 * Behind the places are marks, a Bloom filter (Bloom 1970) by words: few enough bytes for
 * caches, they tell most ids that aren't in the set.
 */
typedef struct {
    const int64_t *ids;
    uint32_t *places;
    int bits;
} farann_id_set;

/*
 * The rows that may not be found: slots with live[slot] == 0 (NULL: none), rows whose ids are
 * `excluded`, and those with groups[slot] == group (NULL: none). ids[slot] is a row's id, or the
 * slot is where ids is NULL.
 */
typedef struct {
    const uint8_t *live;
    const int64_t *ids;
    farann_id_set excluded;
    const int32_t *groups;
    int32_t group;
} farann_filter;

/* The words that a set of n ids needs, for places and marks; 0 for n == 0. */
int64_t farann_id_set_room(int64_t n);

/* Make a set of n ids, n < 2^32, over zeroed words. Ids below 0 fill up lists and are no ids. */
void farann_id_set_fill(farann_id_set *set, const int64_t *ids, int64_t n, uint32_t *places);

/* Whether a slot may be found. */
int farann_filter_allows(const farann_filter *filter, int64_t slot);

/*
 * Candidates from index `from` on hold rows of a block: make slots of them, keep the allowed. If
 * `best` has room, take note of their scores, and keep only those that aren't worse than the last
 * of the best by more than `margin`. Those above `ceiling` are dropped, and those that aren't below
 * `sure` are kept, but are none of the best yet; both are infinite where no row scores too much.
 */
void farann_candidates_admit(farann_candidates *list, int64_t from, const farann_block *block,
                             const farann_filter *filter, farann_best_scores *best, double margin,
                             double sure, double ceiling);

/* Drop the candidates from `from` on that aren't allowed; they stay rows of the block. */
void farann_candidates_drop(farann_candidates *list, int64_t from, const farann_block *block,
                            const farann_filter *filter);

/* Drop the candidates whose score is less than `floor`; order the rest so that those of `best`
 * or more come last. Returns where they begin. */
int64_t farann_candidates_split(farann_candidates *list, double floor, double best);

/* Offer an entry; better is the larger key, then the smaller id. */
void farann_topk_push(farann_topk *top, double key, int64_t id);

/* Offer n rows of a block, all or those in `rows`, by their keys times `sign`. */
void farann_topk_push_rows(farann_topk *top, const double *keys, const int64_t *rows, int64_t n,
                           double sign, const farann_block *block, const farann_filter *filter);

/*
 * Rows of which at most `most` share a group: the best `top->capacity` of them, sorted, best first.
 * groups[i] is the group of entry i. They are those that are taken greedily in the order of entries
 * from all that were offered: an entry that drops out has `most` better ones of its group among the
 * kept, or `capacity` better ones, and rows to come only replace these by better ones.
 */
typedef struct {
    farann_topk *top;
    int32_t *groups;
    int64_t most;
} farann_grouped;

/*
 * Offer an entry of a group. Returns the least key with which a row of this group can still be
 * taken, -infinity if any can.
 */
double farann_grouped_push(farann_grouped kept, farann_entry entry, int32_t group);

/* farann_topk_push_rows for grouped rows; `by_slot` has the group of each slot. */
void farann_grouped_push_rows(farann_grouped kept, const int32_t *by_slot, const double *keys,
                              const int64_t *rows, int64_t n, double sign,
                              const farann_block *block, const farann_filter *filter);

/*
 * Candidates from index `from` on have slots, and keys that differ from their scores by at most
 * `slack`: offer the smallest key that each can have to `floors`, and drop those whose largest
 * can't be taken any more.
 */
void farann_grouped_admit(farann_candidates *list, int64_t from, const int32_t *by_slot,
                          farann_grouped floors, double slack);

/*
 * Sort any entries, best first; they stay in any order once *given_up isn't 0. With `scratch`, which
 * has room for n entries, it is faster where keys lie evenly.
 */
void farann_entries_sort(farann_entry *entries, int64_t n, farann_entry *scratch,
                         const int64_t *given_up);

#endif
