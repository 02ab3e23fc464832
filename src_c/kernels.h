/*
 * The kernels that every instruction set supplies, as one table of function pointers.
 * Kernels take blocks, allocate nothing and touch nothing but their arguments.
 */
#ifndef FARANN_KERNELS_H
#define FARANN_KERNELS_H

#include <stdint.h>

#include "select.h"

/* Types of the coordinates of rows; float32 holds all values of the other types. */
typedef enum {
    FARANN_FLOAT32 = 0,
    FARANN_FLOAT16 = 1,
    FARANN_BFLOAT16 = 2,
    FARANN_UINT8 = 3,
    FARANN_INT8 = 4
} farann_row_type;

/* Bytes of a coordinate. */
static inline int64_t farann_row_type_bytes(farann_row_type type) {
    return type == FARANN_FLOAT32 ? 4 : type < FARANN_UINT8 ? 2 : 1;
}

/* How a metric's float64 sum over coordinates becomes a key; see metric.h. */
typedef enum { FARANN_L2 = 0, FARANN_DOT = 1, FARANN_COSINE = 2 } farann_metric;

/*
 * Rows in 8-bit codes c + 128. Row after row; or as panels of FARANN_CODE_PANEL rows,
 * [group][row][FARANN_CODE_GROUP]; or as panels of the high nibbles of codes and apart from them
 * the low ones, so that the high ones can be read alone: [pair of groups][row][..], the first
 * group's nibble in the lower bits of a byte. Of a panel's low nibbles those of FARANN_CODE_QUAD
 * rows lie together, [quad][pair of groups][row][..], as they are wanted for single rows.
 */
typedef struct {
    const uint8_t *panels; /* whole codes, or the high nibbles where there are low ones */
    const uint8_t *low_nibbles;
    const uint8_t *row_major; /* row after row; NULL where there are panels */
    const float
        *inv_scales; /* one over the scale of a panel's codes, or of a row's with `row_major` */
    const float
        *low_nibble_norm; /* of a panel: the largest |low nibbles - 7.5|; NULL without them */
    const float *squares; /* |y|^2 of a row times its inverse scale; NULL: not part of the score */
    int64_t groups;
} farann_coded_rows;

/* Queries of a tile, at most: the lanes of the widest vectors. */
enum { FARANN_MOST_TILE_QUERIES = 16 };

/*
 * When a row passes, for one query. With H the sum of <u, what the scan reads of the
 * codes>, w the row's inverse scale, b its square and l low_nibble_norm of its panel where high
 * nibbles are read alone, it does if
 *     H > threshold * w + square * b + low_nibble_norm * l + offset
 * and its score is (H * step + origin + sign * b) / w.
 */
typedef struct {
    float threshold, square, low_nibble_norm, offset, step, origin;
} farann_pass_threshold;

/* The pass thresholds of a tile's queries, and the sign of |y|^2 in their keys. */
typedef struct {
    float threshold[FARANN_MOST_TILE_QUERIES];
    float square[FARANN_MOST_TILE_QUERIES];
    float low_nibble_norm[FARANN_MOST_TILE_QUERIES];
    float offset[FARANN_MOST_TILE_QUERIES];
    float step[FARANN_MOST_TILE_QUERIES];
    float origin[FARANN_MOST_TILE_QUERIES];
    float sign;
} farann_pass_thresholds;

/*
 * A tile of queries as gather_codes lays it, or a single one: `codes` u, signed, group by group.
 * `chain` is for scans of a tile: chain[t] = -1 chains query t to the one before it, 0 does not,
 * and one 0 follows the last query. Rows that pass for all queries of a chain are appended to the
 * candidates of its last query, other rows to none.
 */
typedef struct {
    const uint32_t *codes;
    const farann_pass_thresholds *bars;
    const int32_t *chain; /* NULL: each query is by itself */
    int64_t count;        /* places of a tile from here on are empty: nothing passes for them */
} farann_coded_tile;

/*
 * The thresholds for the exact keys of a query's rows, keys times `sign`. Keys above `near` are
 * counted. Those above `least` are appended to `keys` and `rows`, and those that equal it whose ids
 * are not above `last_id`. Ids are rounded to float64, which keeps their order.
 */
typedef struct {
    double near; /* less than `least`, also if a product with a norm and a quotient are rounded */
    double least;
    double last_id;
    int64_t n_near, count;
    double *keys;
    int64_t *rows;
} farann_key_threshold;

/*
 * Rows in float64 as pack_rows_f64 lays them, their ids, padded with infinity to whole panels, and
 * the smallest id of each panel.
 */
typedef struct {
    double *rows, *norms, *ids, *first_ids;
    int64_t dim;
    /* The columns to sum for a tile of queries: those of lane i (i, i + 8, ...) are numbers
       lanes[i] to lanes[i + 1] of the list. */
    int64_t *columns;
    int64_t lanes[9];
} farann_key_panels;

/* Scores coded rows; see farann_kernels. */
typedef void farann_scan_codes(const farann_coded_rows *rows, int high_alone, int64_t n,
                               const farann_coded_tile *tile, farann_candidates *candidates);

typedef struct {
    const char *name;
    int lanes;        /* numbers of a vector of float32 */
    int panel_rows;   /* rows side by side in a packed panel */
    int tile_queries; /* queries side by side in a packed tile */
    int key_rows;     /* the same for exact keys */
    int key_queries;
    int code_queries; /* and for codes */
    int tile_groups;  /* a tile of codes has room for a multiple of this many groups */
    int few_tiles;    /* above this number of tiles, nibbles are joined before a block is scanned */
    int largest_code; /* of queries, in magnitude, at most: the dot products of bytes limit it */

    /* A thread calls `begin` before it scans or scores rows for tiles of codes, and then `end`. */
    void (*begin)(void);
    void (*end)(void);

    /*
     * Exact keys of n rows (larger = further), the same bits at every level.
     * `rows` is (?, dim); row i is rows[positions[i]], or rows[i] where positions is NULL.
     * `query` is float64, padded with zeros to a multiple of 8. One function a metric.
     */
    void (*keys_f64[3])(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                        const double *query, double *keys);

    /*
     * Pack n rows as panels of key_rows rows in float64: coordinate j of a panel's rows is at
     * [j * key_rows]. Their norms are 1 unless they are wanted, for `normalized` rows.
     */
    void (*pack_rows_f64)(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                          int normalized, double *panels, double *norms);

    /*
     * Compute the exact keys of packed rows first .. first + n, whole panels, for a tile of
     * key_queries queries, coordinate j of which is at [j * key_queries], the first `count` of them
     * with bars. The keys have the same bits as those of keys_f64. One function a metric.
     */
    void (*scan_keys_f64[3])(const farann_key_panels *panels, int64_t first, int64_t n,
                             const double *queries, double sign, int count,
                             farann_key_threshold *bars);

    /*
     * Pack n rows as panels: y = x * r - center, with r = 1 or, for `normalized` rows, 1 / |x|.
     * A panel holds coordinate j of its panel_rows rows at [j * panel_rows]. bias[i] becomes
     * bias_sign * |y|^2 (-inf for the rows that fill up the last panel). Returns the largest
     * |y|^2, infinite where float32 can't hold a value.
     */
    double (*pack_rows_f32)(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                            const double *center, int normalized, float bias_sign, float *panels,
                            float *bias);

    /*
     * Pack up to tile_queries of some vectors, `stride` apart, as a tile, which holds coordinate j
     * of its queries at [j * tile_queries]; the first one fills up its empty places.
     */
    void (*pack_queries_f32)(const float *vectors, int64_t stride, const int64_t *members,
                             int64_t count, int64_t dim, float *tile);

    /*
     * Score packed rows against the first n_queries of a packed tile: bias + <query, row>. Appends
     * each row whose score is greater than its query's threshold to that query's candidates (which
     * need room for n_rows more), as position `row`. Thresholds and candidates are those of a whole
     * tile, in whose empty places thresholds are infinite.
     */
    void (*scan_panels_f32)(const float *panels, int64_t n_rows, int64_t dim, const float *bias,
                            const float *queries, int64_t n_queries, const float *thresholds,
                            farann_candidates *candidates);

    /*
     * Score packed rows likewise, of whole panels: those of query t < n_queries begin at
     * scores[t * stride].
     */
    void (*score_panels_f32)(const float *panels, int64_t n_rows, int64_t dim, const float *bias,
                             const float *queries, int64_t n_queries, float *scores,
                             int64_t stride);

    /*
     * Raise `best` of each packed row to the largest of its scores for n queries less the query's
     * offset. Queries are in whole tiles, which are filled up with infinite offsets; or it is one
     * alone, coordinate j of which is at [j * tile_queries]. `best` and `bias` are of whole panels.
     */
    void (*best_scores_f32)(const float *panels, int64_t n_rows, int64_t dim, const float *bias,
                            const float *queries, int64_t n_queries, const float *offsets,
                            float *best);

    /*
     * Score row-major rows for one query. With y = x - center, p = <query_vector, y> and
     * n = |y|^2 the score is p + bias_sign * n, or for `normalized` rows, whose center is zeros,
     * p / sqrt(n), both with up to 2^-116 more. Center and query vector are padded with zeros to a
     * multiple of FARANN_PADDING. norms[0] and norms[1] become the smallest and the largest n, NaN
     * if any is; where norms is NULL, and neither are rows `normalized` nor has bias_sign any, n is
     * not summed.
     */
    void (*score_rows_f32)(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                           const float *center, const float *query_vector, int normalized,
                           float bias_sign, float *scores, float *norms);

    /* The k-th largest of n scores, or a little less, k >= 1; -inf if n < k. NaNs don't count. */
    float (*kth_largest_f32)(const float *scores, int64_t n, int64_t k);

    /* Append the scores greater than a threshold, and their numbers, to the candidates. */
    void (*select_f32)(const float *scores, int64_t n, float threshold,
                       farann_candidates *candidates);

    /*
     * The largest score of each of FARANN_SCORE_GROUPS interleaved groups of n scores; n is a
     * multiple of FARANN_PADDING. NaNs don't count; -inf where a group has no other number.
     */
    void (*largest_f32)(const float *scores, int64_t n, float *largest);

    /*
     * Make a tile of some of the queries whose codes lie one after the other, `groups` each. The
     * places of queries from `count` on stay as they are; groups that the tile has beyond `groups`
     * must be zeros.
     */
    void (*gather_codes)(const uint32_t *codes, const int64_t *members, int64_t count,
                         int64_t groups, uint32_t *tile);

    /*
     * Score n coded rows against a tile of code_queries queries (or against one query), by their
     * whole codes or with `high_alone` by high nibbles. Appends those that pass to the query's
     * candidates, by number; numbers that fill up a panel may be among them. Candidates need room
     * for n rounded up to whole panels. Scores of high nibbles for one query are left as bare sums
     * where rows have low nibbles, too: rerank_codes_i8 adds these.
     */
    farann_scan_codes *scan_codes_i8;
    farann_scan_codes *scan_codes_one_i8;

    /*
     * Score the first n coded rows, whole panels of them, against a tile of code_queries queries
     * by whole codes, whatever they reach: scores of query t, by row, go to scores[t * n].
     */
    void (*score_codes_i8)(const farann_coded_rows *rows, int64_t n, const farann_coded_tile *tile,
                           float *scores);

    /* Score n coded rows likewise for one query, by codes that aren't in nibbles. */
    void (*score_codes_one_i8)(const farann_coded_rows *rows, int64_t n,
                               const farann_coded_tile *query, float *scores);

    /* Join both nibbles of the codes of n rows, whole panels of them. */
    void (*join_codes_i8)(const farann_coded_rows *rows, int64_t n, uint8_t *panels);

    /*
     * Score the candidates from `from` on, whose slots are rows start + slot and whose scores are
     * sums of high nibbles, by the low ones as well, against one query (or, whatever their
     * scores, by `row_major` codes); keep those that pass.
     */
    void (*rerank_codes_i8)(const farann_coded_rows *rows, int64_t start,
                            const farann_coded_tile *query, farann_candidates *list, int64_t from);

    /* Rotate x (dim) in place: per round a change of signs (rounds x dim), then butterflies. */
    void (*rotate_f64)(double *x, int64_t dim, const double *signs, int rounds);

    /* <basis[i], x> of n basis vectors; `basis` is (n, dim), dim a multiple of 8. */
    void (*project_f64)(const double *basis, int64_t n, int64_t dim, const double *x,
                        double *products);

    /*
     * Write the whole numbers u nearest to a / step, plus 128, as n bytes, n a multiple of 8.
     * sums: |step * u|^2, |a - step * u|^2, and the sum of u.
     */
    void (*quantize_f64)(const double *a, int64_t n, double step, uint8_t *codes, double *sums);

    /* x as float64, with zeros up to a multiple of 8. */
    void (*widen_f32)(const float *x, int64_t dim, double *wide);

    /*
     * The query vector, which rows are multiplied by: a = (q - center) * factor if `from_center`,
     * else q * factor / norm; and this as float32. All are of n numbers, a multiple of 8, with
     * zeros where they end before. sums: |q - center|^2, <q, center>, |a|^2 as float32 has it, each
     * in eight lanes and the tree of keys_f64.
     */
    void (*scale_query_f64)(const double *exact, const double *center, int64_t n, int from_center,
                            double factor, double norm, double *query_vector,
                            float *query_vector_f32, double *sums);

    /* The largest magnitude of n numbers, a multiple of 8; NaNs don't count. */
    double (*largest_f64)(const double *x, int64_t n);

    /* Write n rows as float32, one after the other; those at some positions, or the first n. */
    void (*widen_rows)(farann_row_type type, const void *rows, const int64_t *positions, int64_t n,
                       int64_t dim, float *wide);
} farann_kernels;

/*
 * Padded arrays hold a multiple of PADDING floats, the lanes of the widest vector. SCORE_GROUPS is
 * the number of groups of largest_f32, a multiple of PADDING.
 */
enum { FARANN_PADDING = 16, FARANN_SCORE_GROUPS = 64 };

/* Rows of a panel of codes, coordinates of a group, and rows of a quad of low nibbles. */
enum { FARANN_CODE_PANEL = 16, FARANN_CODE_GROUP = 4, FARANN_CODE_QUAD = 4 };

/* Instruction sets that farann_levels can list: at least those that dispatch.c compiles in. */
enum { FARANN_MOST_LEVELS = 8 };

/* Write the tables of the levels that this CPU has, slowest first; return how many. */
int farann_levels(const farann_kernels *found[FARANN_MOST_LEVELS]);

/* The table of a level by name, or NULL if there is no such level on this CPU. */
const farann_kernels *farann_kernels_by_name(const char *name);

#endif
