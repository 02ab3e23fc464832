/* Selection apart from scoring. */
#include "core.h"

static int better(const void *a, const void *b) {
    const farann_entry *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

void best(void) {
    const int64_t n = number(1, 120), k = number(1, n), n_slots = number(n, 240);
    farann_candidates list = candidates(n);
    farann_entry *entries = NEW(farann_entry, n), *heap = NEW(farann_entry, k);
    farann_best_scores noted = {NEW(float, k), k, 0};
    farann_topk top = {heap, k, 0};
    uint8_t *live = number(0, 1) ? NEW(uint8_t, n_slots) : NULL;
    int32_t *groups = number(0, 1) ? NEW(int32_t, n_slots) : NULL;
    int64_t *excluded = NEW(int64_t, 2), n_kept = 0, n_entries = 0;
    double *row_keys = NEW(double, n);
    const double margin = (double)number(0, 9);
    const int64_t never = 0;
    for (int64_t i = 0; live && i < n_slots; i++) live[i] = byte() % 4 != 0;
    for (int64_t i = 0; groups && i < n_slots; i++) groups[i] = byte() % 4;
    excluded[0] = number(0, n_slots - 1);
    excluded[1] = excluded[0] + 1;
    farann_filter filter = {live, NULL, {0}, groups, 2};
    farann_id_set_fill(&filter.excluded, excluded, 2, NEW(uint32_t, farann_id_set_room(2)));
    const farann_block block = {0, NULL, NULL, NULL, n_slots};
    for (int64_t i = 0; i < n; i++) {
        const int allowed = i != excluded[0] && i != excluded[1] && (!live || live[i]) &&
                            (!groups || groups[i] != 2);
        CHECK(farann_filter_allows(&filter, i) == allowed);
        row_keys[i] = (double)small();
        list.scores[i] = (float)row_keys[i];
        list.slots[i] = i;
        farann_entry entry = {row_keys[i], i};
        if (allowed) entries[n_entries++] = entry;
    }
    /* The heap holds the k best, equal keys by smaller id. */
    farann_topk_push_rows(&top, row_keys, NULL, n, 1.0, &block, &filter);
    farann_entries_sort(heap, top.count, NULL, &never);
    qsort(entries, (size_t)n_entries, sizeof *entries, better);
    CHECK(top.count == (k < n_entries ? k : n_entries));
    for (int64_t i = 0; i < top.count; i++)
        CHECK(heap[i].key == entries[i].key && heap[i].id == entries[i].id);
    /* Below a ceiling only those that are surely below it are among the best. */
    farann_candidates below = candidates(n);
    farann_best_scores sure_ones = {NEW(float, k), k, 0};
    const double ceiling = (double)small(), sure = ceiling - (double)number(0, 3);
    int64_t n_sure = 0;
    for (int64_t i = 0; i < n; i++) {
        below.scores[i] = (float)row_keys[i];
        below.slots[i] = i;
    }
    below.count = n;
    farann_candidates_admit(&below, 0, &block, &filter, &sure_ones, margin, sure, ceiling);
    for (int64_t i = 0; i < below.count; i++)
        CHECK((double)below.scores[i] <= ceiling && farann_filter_allows(&filter, below.slots[i]));
    for (int64_t i = 0; i < n_entries; i++) {
        if (!(entries[i].key < sure) || n_sure == k) continue;
        CHECK(n_sure < sure_ones.count && (double)sure_ones.scores[n_sure] == entries[i].key);
        n_sure++;
    }
    CHECK(n_sure == sure_ones.count);
    /* What is admitted has all that could be among these, and nothing that is filtered out. */
    list.count = n;
    farann_candidates_admit(&list, 0, &block, &filter, &noted, margin, INFINITY, INFINITY);
    CHECK(noted.count == top.count);
    for (int64_t i = 0; i < noted.count; i++) CHECK((double)noted.scores[i] == entries[i].key);
    for (int64_t i = 0; i < list.count; i++) CHECK(farann_filter_allows(&filter, list.slots[i]));
    if (top.count == 0) return;
    for (int64_t i = 0; i < list.count; i++)
        n_kept += (double)list.scores[i] >= entries[top.count - 1].key;
    for (int64_t i = 0; i < n_entries; i++) n_kept -= entries[i].key >= entries[top.count - 1].key;
    CHECK(n_kept == 0);
    if (list.count < top.count) return;
    const double middle = entries[0].key;
    const int64_t first = farann_candidates_split(&list, entries[top.count - 1].key, middle);
    for (int64_t i = 0; i < list.count; i++) {
        CHECK(((double)list.scores[i] >= middle) == (i >= first));
        CHECK((double)list.scores[i] >= entries[top.count - 1].key);
        CHECK((double)list.scores[i] == row_keys[list.slots[i]]);
    }
}

/* What is taken of the rows that pass, at most `most` of a group, is what is taken of all. */
void grouped(void) {
    const int64_t n = number(1, 80), k = number(1, 12), most = number(1, 4), slack = number(0, 2);
    int32_t *by_slot = NEW(int32_t, n), *groups = NEW(int32_t, 2 * k);
    int64_t taken[4] = {0}, n_taken = 0, from = 0;
    farann_entry *entries = NEW(farann_entry, 2 * k), *all = NEW(farann_entry, n);
    farann_topk of_least = {entries, k, 0}, top = {entries + k, k, 0};
    const farann_grouped floors = {&of_least, groups, most}, kept = {&top, groups + k, most};
    farann_candidates list = candidates(n);
    double *row_keys = NEW(double, n);
    for (int64_t i = 0; i < n; i++) {
        by_slot[i] = byte() % 4;
        row_keys[i] = (double)small();
        const farann_entry entry = {row_keys[i], i};
        all[i] = entry;
        list.scores[list.count] = (float)(row_keys[i] + (double)number(-slack, slack));
        list.slots[list.count++] = i;
        if (i % 7 < 6 && i < n - 1) continue; /* rows come in blocks */
        farann_grouped_admit(&list, from, by_slot, floors, (double)slack);
        from = list.count;
    }
    for (int64_t i = 0; i < list.count; i++) {
        const farann_entry entry = {row_keys[list.slots[i]], list.slots[i]};
        farann_grouped_push(kept, entry, by_slot[entry.id]);
    }
    qsort(all, (size_t)n, sizeof *all, better);
    for (int64_t i = 0; i < n && n_taken < k; i++) {
        if (taken[by_slot[all[i].id]]++ >= most) continue;
        CHECK(n_taken < top.count && top.entries[n_taken].id == all[i].id &&
              top.entries[n_taken].key == all[i].key);
        n_taken++;
    }
    CHECK(n_taken == top.count);
}

/* A key of one kind, by a random number: what digits are good for, and what they aren't. */
static double key_like(int kind, uint32_t random) {
    const double even = (double)random;
    switch (kind) {
    case 0: return even;
    case 1: return (double)(random % 5); /* ties */
    case 2: return 1.5;                  /* all equal */
    case 3: return random % 9 ? even : random % 2 ? INFINITY : -INFINITY;
    case 4: return (random % 2 ? 1.7e308 : -1.7e308) / (1.0 + even); /* too far apart */
    case 5: return (double)(random % 2000) * 0x1p-1074;              /* hardly apart */
    case 6: return random % 100 ? even * 1e-12 : 1e30 * even;        /* nearly all at one place */
    case 7: return 1.0 + (double)(random % 4096) * 0x1p-52;
    case 8: return (double)(random % 2048) * 0.7 - 400.0; /* one or two at a place */
    default: return random % 7 ? even : NAN;
    }
}

/* Sorting by ranks, and by digits, against qsort. */
void sorting(void) {
    const int kind = (int)number(0, 9);
    const int64_t n = number(0, 1) ? number(505, 520) : number(0, 3000);
    const int64_t given_up = number(0, 15) == 0;
    farann_entry *entries = NEW(farann_entry, n), *expected = NEW(farann_entry, n);
    farann_entry *plain = NEW(farann_entry, n), *scratch = NEW(farann_entry, n);
    uint8_t *seen = NEW(uint8_t, 1 << 16);
    uint32_t random = byte() | byte() << 8;
    for (int64_t i = 0; i < n; i++) {
        random = random * 1664525u + 1013904223u;
        entries[i].key = key_like(kind, random >> 8);
        entries[i].id = i * 40503 % 65536; /* no two are the same */
        expected[i] = plain[i] = entries[i];
    }
    farann_entries_sort(plain, n, NULL, &given_up);
    farann_entries_sort(entries, n, scratch, &given_up);
    qsort(expected, (size_t)n, sizeof *expected, better);
    for (int64_t i = 0; i < n; i++) {
        CHECK(!seen[entries[i].id]); /* whatever happens, none is lost */
        seen[entries[i].id] = 1;
        if (given_up || kind == 9) continue; /* in any order */
        CHECK(plain[i].key == expected[i].key && plain[i].id == expected[i].id);
        CHECK(entries[i].key == expected[i].key && entries[i].id == expected[i].id);
    }
}
