/*
 * Runs one kernel of one level once, on zeros: `count LEVEL KERNEL`. count_arm.py counts what it
 * executes. Without arguments it says which levels and kernels there are, and for how many products.
 */
#include <stdio.h>
#include <string.h>

#include "kernels.h"

enum { DIM = 64, ROWS = 96, GROUPS = DIM / FARANN_CODE_GROUP, MOST_QUERIES = 16, ROOM = 128 };

static uint8_t panels[ROWS * DIM];
static uint32_t queries[MOST_QUERIES * GROUPS];
static float scales[ROWS], rows[ROWS * DIM], center[DIM], scores[ROOM], norms[2], thresholds[16];
static double keys[ROWS], wide[MOST_QUERIES * DIM];
static farann_pass_thresholds bars;
static farann_candidates lists[MOST_QUERIES];

typedef struct {
    const char *name;
    int shared; /* by a tile of queries */
} kernel;

static const kernel all[] = {{"scan_codes_i8", 1},      {"scan_codes_one_i8", 0},
                             {"scan_codes_i8_high", 1}, {"scan_codes_one_i8_high", 0},
                             {"scan_panels_f32", 1},    {"score_rows_f32", 0},
                             {"keys_dot_f64", 0}};
enum { N_KERNELS = sizeof all / sizeof *all };

static int run(const farann_kernels *level, int chosen) {
    static int64_t found[MOST_QUERIES][ROOM];
    static float found_scores[MOST_QUERIES][ROOM];
    const farann_coded_rows coded = {
        .panels = panels, .inv_scales = scales, .groups = GROUPS, .low_nibble_norm = scales};
    const farann_coded_tile tile = {.codes = queries, .bars = &bars, .count = level->code_queries};
    for (int t = 0; t < MOST_QUERIES; t++) {
        lists[t] = (farann_candidates){found_scores[t], found[t], 0};
        bars.offset[t] = thresholds[t] = 1e9f; /* no row passes */
    }
    switch (chosen) {
    case 0:
    case 2: level->scan_codes_i8(&coded, chosen == 2, ROWS, &tile, lists); break;
    case 1:
    case 3: level->scan_codes_one_i8(&coded, chosen == 3, ROWS, &tile, lists); break;
    case 4:
        level->scan_panels_f32(rows, ROWS, DIM, scales, rows, level->tile_queries, thresholds,
                               lists);
        break;
    case 5:
        level->score_rows_f32(rows, NULL, ROWS, DIM, center, center, 0, 1.0f, scores, norms);
        break;
    case 6: level->keys_f64[FARANN_DOT](rows, NULL, ROWS, DIM, wide, keys); break;
    default: return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        const farann_kernels *levels[FARANN_MOST_LEVELS];
        const int n_levels = farann_levels(levels);
        for (int l = 0; l < n_levels; l++) {
            const farann_kernels *level = levels[l];
            for (int i = 0; i < N_KERNELS; i++) {
                int width = !all[i].shared                       ? 1
                            : strstr(all[i].name, "f32") != NULL ? level->tile_queries
                                                                 : level->code_queries;
                printf("%s %s %d\n", level->name, all[i].name, ROWS * DIM * width);
            }
        }
        return 0;
    }
    const farann_kernels *level = farann_kernels_by_name(argv[1]);
    for (int i = 0; level && i < N_KERNELS; i++)
        if (strcmp(all[i].name, argv[2]) == 0) return run(level, i);
    return 2;
}
