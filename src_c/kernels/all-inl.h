/*
 * The kernels, written once. Each levels/<isa>.c includes its words, simd/<isa>.h, and then this
 * file, which gives the functions farann_<verb>_<type>_<isa> and the table farann_kernels_<isa>.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels.h"

#define PASTE_(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define NAME(verb_type) PASTE(farann, verb_type, FARANN_LEVEL)
#define KERNEL(type) FARANN_TARGET static type

/* Rows of a packed panel, and coordinates of its rows that are packed at once. */
enum { PANEL_ROWS = PANEL_VECTORS * F32_LANES, PACK_COLUMNS = 16 };

#include "kernels/exact_keys-inl.h"
#include "kernels/row_panels-inl.h"
#include "kernels/row_major-inl.h"
#include "kernels/pick_scores-inl.h"
#include "kernels/key_panels-inl.h"
#include "kernels/codes-inl.h"
#include "kernels/queries-inl.h"
#include "kernels/transforms-inl.h"
#include "kernels/widen-inl.h"

const farann_kernels NAME(kernels) = {
    FARANN_LEVEL_NAME,
    F32_LANES,
    PANEL_ROWS,
    TILE_QUERIES,
    KEY_ROWS,
    KEY_QUERIES,
    CODE_QUERIES,
    CODE_PANELS * FARANN_CODE_PANEL,
    TILE_GROUPS,
    FEW_TILES,
    LARGEST_CODE,
    NAME(begin),
    NAME(end),
    {NAME(keys_l2_f64), NAME(keys_dot_f64), NAME(keys_cosine_f64)},
    NAME(pack_rows_f64),
    {NAME(scan_keys_l2_f64), NAME(scan_keys_dot_f64), NAME(scan_keys_cosine_f64)},
    NAME(pack_rows_f32),
    NAME(scan_panels_f32),
    NAME(score_panels_f32),
    NAME(best_scores_f32),
    NAME(score_rows_f32),
    NAME(kth_largest_f32),
    NAME(select_f32),
    NAME(lower_f32),
    NAME(lower_bounds_f32),
    NAME(find_f32),
    NAME(largest_f32),
    NAME(gather_codes),
    NAME(scan_codes_i8),
    NAME(scan_codes_one_i8),
    NAME(scan_high_i4),
    NAME(scan_high_one_i4),
    NAME(score_codes_i8),
    NAME(score_codes_one_i8),
    NAME(join_codes_i8),
    NAME(rerank_codes_i8),
    NAME(rotate_f64),
    NAME(project_f64),
    NAME(quantize_f64),
    NAME(widen_f32),
    NAME(scale_query_f64),
    NAME(largest_f64),
    NAME(widen_rows),
};
