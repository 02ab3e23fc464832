/*
 * The kernels, written once. Each levels/<isa>.c includes its words, simd/<isa>.h, and then this
 * file, which defines the functions farann_<verb>_<type>_<isa> and the table farann_kernels_<isa>.
 * A level that only multiplies codes in another way than FARANN_BASE compiles the kernels of codes
 * alone, and has that level's others in its table.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels.h"
#include "simd/shared.h"

#define PASTE_(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define NAME(verb_type) PASTE(farann, verb_type, FARANN_LEVEL)
#define BASE(verb_type) PASTE(farann, verb_type, FARANN_BASE)
#define KERNEL(type) FARANN_TARGET type
#define QUOTED_(name) #name
#define QUOTED(name) QUOTED_(name)

/* Rows of a packed panel, and coordinates of its rows that are packed at once. */
enum { PANEL_ROWS = PANEL_VECTORS * F32_LANES, PACK_COLUMNS = 16 };

/* Rows of a panel of exact keys. */
enum { KEY_ROWS = KEY_VECTORS * 8 };

/* Append the rows of a vector that a mask has, with their scores: there is room for all. */
WORD void append_scores(farann_candidates *list, uint32_t mask, f32v scores, int64_t row) {
    const int64_t count = list->count;
    list->count = count +
                  f32_compress(list->scores + count, list->slots + count, mask, scores, row);
}

#ifndef FARANN_DERIVED
#include "kernels/keys-inl.h"
#include "kernels/float32-inl.h"
#include "kernels/pick_scores-inl.h"
#include "kernels/vectors-inl.h"
#endif
#include "kernels/codes-inl.h"

/* The kernels of FARANN_BASE: where each is in the table, and its name. */
#define FOR_EACH_OF_BASE(DO)                                \
    DO(keys_f64[FARANN_L2], keys_l2_f64)                    \
    DO(keys_f64[FARANN_DOT], keys_dot_f64)                  \
    DO(keys_f64[FARANN_COSINE], keys_cosine_f64)            \
    DO(pack_rows_f64, pack_rows_f64)                        \
    DO(scan_keys_f64[FARANN_L2], scan_keys_l2_f64)          \
    DO(scan_keys_f64[FARANN_DOT], scan_keys_dot_f64)        \
    DO(scan_keys_f64[FARANN_COSINE], scan_keys_cosine_f64)  \
    DO(pack_rows_f32, pack_rows_f32)                        \
    DO(pack_queries_f32, pack_queries_f32)                  \
    DO(scan_panels_f32, scan_panels_f32)                    \
    DO(score_panels_f32, score_panels_f32)                  \
    DO(best_scores_f32, best_scores_f32)                    \
    DO(score_rows_f32, score_rows_f32)                      \
    DO(kth_largest_f32, kth_largest_f32)                    \
    DO(select_f32, select_f32)                              \
    DO(largest_f32, largest_f32)                            \
    DO(rotate_f64, rotate_f64)                              \
    DO(project_f64, project_f64)                            \
    DO(quantize_f64, quantize_f64)                          \
    DO(widen_f32, widen_f32)                                \
    DO(scale_query_f64, scale_query_f64)                    \
    DO(largest_f64, largest_f64)                            \
    DO(widen_rows, widen_rows)

#define DECLARE(entry, name) extern __typeof__(*((const farann_kernels *)0)->entry) BASE(name);
FOR_EACH_OF_BASE(DECLARE)

#define ENTER(entry, name) .entry = BASE(name),
const farann_kernels NAME(kernels) = {.name = QUOTED(FARANN_LEVEL),
                                      .lanes = F32_LANES,
                                      .panel_rows = PANEL_ROWS,
                                      .tile_queries = TILE_QUERIES,
                                      .key_rows = KEY_ROWS,
                                      .key_queries = KEY_QUERIES,
                                      .code_queries = CODE_QUERIES,
                                      .tile_groups = TILE_GROUPS,
                                      .few_tiles = FEW_TILES,
                                      .largest_code = LARGEST_CODE,
                                      .begin = NAME(begin),
                                      .end = NAME(end),
                                      .gather_codes = NAME(gather_codes),
                                      .scan_codes_i8 = NAME(scan_codes_i8),
                                      .scan_codes_one_i8 = NAME(scan_codes_one_i8),
                                      .score_codes_i8 = NAME(score_codes_i8),
                                      .score_codes_one_i8 = NAME(score_codes_one_i8),
                                      .join_codes_i8 = NAME(join_codes_i8),
                                      .rerank_codes_i8 = NAME(rerank_codes_i8),
                                      FOR_EACH_OF_BASE(ENTER)};
