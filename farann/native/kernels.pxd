"""Declarations of the C kernels; the headers in src_c document them."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t


cdef extern from "select.h" nogil:
    ctypedef struct farann_candidates:
        float *scores
        int64_t *slots
        int64_t count

    ctypedef struct farann_best_scores:
        float *scores
        int64_t capacity, count

    ctypedef struct farann_entry:
        double key
        int64_t id

    ctypedef struct farann_topk:
        farann_entry *entries
        int64_t capacity, count

    ctypedef struct farann_grouped:
        farann_topk *top
        int32_t *groups
        int64_t most

    ctypedef struct farann_block:
        int64_t first
        const int64_t *positions
        const int32_t *slots
        const int64_t *ids
        int64_t end

    int64_t farann_slot_of(const farann_block *, int64_t)

    ctypedef struct farann_id_set:
        int bits

    ctypedef struct farann_filter:
        const uint8_t *live
        const int64_t *ids
        farann_id_set excluded
        const int32_t *groups
        int32_t group

    void farann_candidates_admit(farann_candidates *, int64_t, const farann_block *,
                                 const farann_filter *, farann_best_scores *, double, double,
                                 double)
    int64_t farann_candidates_split(farann_candidates *, double, double)
    void farann_topk_push(farann_topk *, double, int64_t)
    void farann_topk_push_rows(farann_topk *, const double *, const int64_t *, int64_t, double,
                               const farann_block *, const farann_filter *)
    double farann_grouped_push(farann_grouped, farann_entry, int32_t)
    void farann_grouped_push_rows(farann_grouped, const int32_t *, const double *, const int64_t *,
                                  int64_t, double, const farann_block *, const farann_filter *)
    void farann_grouped_admit(farann_candidates *, int64_t, const int32_t *, farann_grouped, double)
    int64_t farann_id_set_room(int64_t)
    void farann_id_set_fill(farann_id_set *, const int64_t *, int64_t, uint32_t *)
    void farann_candidates_drop(farann_candidates *, int64_t, const farann_block *,
                                const farann_filter *)
    bint farann_filter_allows(const farann_filter *, int64_t)
    void farann_entries_sort(farann_entry *, int64_t, farann_entry *, const int64_t *)


cdef extern from "portable.h" nogil:
    int64_t farann_load(const int64_t *)
    bint farann_is_up(const int64_t *)
    void farann_store(int64_t *, int64_t)


cdef extern from "platform.h" nogil:
    ctypedef struct farann_cpus:
        uint64_t words[16]

    int farann_cpu_here()
    int farann_cpus_of(int64_t, int, farann_cpus *)
    void farann_cpus_use(int64_t, const farann_cpus *)
    void *farann_alloc(size_t, bint)
    void *farann_realloc(void *, size_t)
    void farann_give_back_memory()
    int64_t farann_fail_allocation(int64_t)
    double farann_seconds()
    uint64_t farann_arithmetic_begin()
    void farann_arithmetic_end(uint64_t)
    int farann_flush_denormals(bint)


cdef extern from "kernels.h" nogil:
    ctypedef enum farann_row_type:
        FARANN_FLOAT32
        FARANN_UINT8
        FARANN_INT8

    int64_t farann_row_type_bytes(farann_row_type)

    ctypedef enum farann_metric:
        FARANN_L2  # for keys_f64 of distances alone: searches ask for traits

    ctypedef struct farann_key_threshold:
        double near, least, last_id
        int64_t n_near, count
        double *keys
        int64_t *rows

    ctypedef struct farann_key_panels:
        double *rows
        double *norms
        double *ids
        double *first_ids
        int64_t *columns
        int64_t dim
        int64_t lanes[9]

    ctypedef struct farann_coded_rows:
        const uint8_t *panels
        const uint8_t *low_nibbles
        const uint8_t *row_major
        const float *inv_scales
        const float *low_nibble_norm
        const float *squares
        int64_t groups

    ctypedef struct farann_pass_threshold:
        pass

    ctypedef struct farann_pass_thresholds:
        float sign

    ctypedef struct farann_coded_tile:
        const uint32_t *codes
        const farann_pass_thresholds *bars
        const int32_t *chain
        int64_t count

    ctypedef void farann_scan_codes(const farann_coded_rows *, bint, int64_t,
                                    const farann_coded_tile *, farann_candidates *) noexcept

    enum:
        FARANN_PADDING
        FARANN_SCORE_GROUPS
        FARANN_CODE_PANEL
        FARANN_CODE_GROUP
        FARANN_MOST_LEVELS

    ctypedef struct farann_kernels:
        const char *name
        int panel_rows, tile_queries, key_rows, key_queries, code_queries, tile_groups, few_tiles
        int largest_code
        void (*begin)() noexcept nogil
        void (*end)() noexcept nogil
        void (*keys_f64[3])(const float *, const int64_t *, int64_t, int64_t, const double *,
                            double *) noexcept nogil
        void (*pack_rows_f64)(const float *, const int64_t *, int64_t, int64_t, int, double *,
                              double *) noexcept nogil
        void (*scan_keys_f64[3])(const farann_key_panels *, int64_t, int64_t, const double *,
                                 double, int, farann_key_threshold *) noexcept nogil
        double (*pack_rows_f32)(const float *, const int64_t *, int64_t, int64_t, const double *,
                                int, float, float *, float *) noexcept nogil
        void (*pack_queries_f32)(const float *, int64_t, const int64_t *, int64_t, int64_t,
                                 float *) noexcept nogil
        void (*scan_panels_f32)(const float *, int64_t, int64_t, const float *, const float *,
                                int64_t, const float *, farann_candidates *) noexcept nogil
        void (*score_panels_f32)(const float *, int64_t, int64_t, const float *, const float *,
                                 int64_t, float *, int64_t) noexcept nogil
        void (*best_scores_f32)(const float *, int64_t, int64_t, const float *, const float *,
                                int64_t, const float *, float *) noexcept nogil
        void (*score_rows_f32)(const float *, const int64_t *, int64_t, int64_t, const float *,
                               const float *, int, float, float *, float *) noexcept nogil
        float (*kth_largest_f32)(const float *, int64_t, int64_t) noexcept nogil
        void (*select_f32)(const float *, int64_t, float, farann_candidates *) noexcept nogil
        void (*largest_f32)(const float *, int64_t, float *) noexcept nogil
        void (*gather_codes)(const uint32_t *, const int64_t *, int64_t, int64_t,
                             uint32_t *) noexcept nogil
        farann_scan_codes *scan_codes_i8
        farann_scan_codes *scan_codes_one_i8
        void (*score_codes_i8)(const farann_coded_rows *, int64_t, const farann_coded_tile *,
                               float *) noexcept nogil
        void (*score_codes_one_i8)(const farann_coded_rows *, int64_t, const farann_coded_tile *,
                                   float *) noexcept nogil
        void (*join_codes_i8)(const farann_coded_rows *, int64_t, uint8_t *) noexcept nogil
        void (*rerank_codes_i8)(const farann_coded_rows *, int64_t, const farann_coded_tile *,
                                farann_candidates *, int64_t) noexcept nogil
        void (*rotate_f64)(double *, int64_t, const double *, int) noexcept nogil
        void (*widen_f32)(const float *, int64_t, double *) noexcept nogil
        void (*widen_rows)(farann_row_type, const void *, const int64_t *, int64_t, int64_t,
                           float *) noexcept nogil

    int farann_levels(const farann_kernels **)
    const farann_kernels *farann_kernels_by_name(const char *)


cdef extern from "metric.h" nogil:
    ctypedef struct farann_traits:
        bint normalized, squared
        farann_metric sums

    farann_traits farann_traits_of(farann_metric)

    ctypedef struct farann_query:
        double key_scale, key_offset, vector_norm, query_norm

    void farann_query_prepare(const farann_kernels *, farann_metric, double, const float *, int64_t,
                              const double *, double, double *, double *, float *, farann_query *)
    double farann_query_slack(const farann_query *, double)
    double farann_query_slack_row_major(const farann_query *, int, double, double)
    double farann_key_within(farann_metric, double, double, double, const farann_query *)
    double farann_score(farann_metric, double, double)
    double farann_key_at(farann_metric, double, double, double)
    bint farann_is_beyond(farann_metric, double, double)
    int64_t farann_largest_integer(const void *, farann_row_type, int64_t)
    double farann_negative_norm(const double *, int64_t)
    int64_t farann_has_negative(const void *, farann_row_type, int64_t)
    void farann_keys_of_integers(farann_metric, const float *, const float *, int64_t, double,
                                 double *)
    int64_t farann_first_bad_row(const float *, int64_t, int64_t, int)


cdef extern from "quantize.h" nogil:
    enum:
        FARANN_ROTATION_ROUNDS
        FARANN_EXTREMES
        FARANN_SPAN

    ctypedef struct farann_code_bounds:
        double residual, length, low_nibble_norm, norm, outside, outside_length, scale
        double largest_threshold, largest_square, rest_unit, noise
        int64_t dim

    ctypedef struct farann_coded_query:
        double step, allowance, length, slack, off

    ctypedef struct farann_transform:
        const double *signs
        const double *axes
        int64_t coded

    double farann_along(const farann_kernels *, const double *, int64_t, int64_t, const double *,
                        double *)
    double farann_transform_vector(const farann_kernels *, const farann_transform *, int64_t,
                                   double *, double *)
    void farann_code_extents(const farann_kernels *, const float *, int64_t, int64_t,
                             const double *, int, const farann_transform *, double *, double *)
    void farann_encode_rows(const farann_kernels *, const float *, int64_t, int64_t,
                            const double *, int, const farann_transform *, const float *, double *,
                            uint8_t *, double *, float *, double *)
    void farann_pack_codes(const uint8_t *, const int64_t *, int64_t, int64_t, bint, uint8_t *,
                           uint8_t *)
    void farann_code_query(const farann_kernels *, const double *, double,
                           const farann_code_bounds *, double, const farann_query *, bint,
                           uint8_t *, uint32_t *, farann_coded_query *)
    farann_pass_threshold farann_pass_threshold_at(
        const farann_coded_query *, const farann_code_bounds *, double, double, bint)
    farann_pass_threshold farann_pass_threshold_none()
    int32_t farann_code_product(const uint32_t *, const int8_t *, int64_t)
    void farann_pass_thresholds_set(farann_pass_thresholds *, int64_t,
                                    const farann_pass_threshold *)


cdef enum:
    BLOCK_BYTES = 524288  # bytes of a packed block of rows, which stays in the second-level cache
    FIRST_BLOCK = 64  # rows of a scan's first block; blocks are multiples of it
    LARGEST_BLOCK = 1024  # rows of a block, at most
    LONG_BLOCKS = 4  # blocks are up to 4 times as long for a single query behind many rows


cdef const farann_kernels *kernels_of(str isa) except NULL
cdef farann_row_type row_type_of(object rows) except *


cdef inline int64_t padded(int64_t dim) noexcept nogil:
    return (dim + FARANN_PADDING - 1) // FARANN_PADDING * FARANN_PADDING


cdef inline int64_t code_pairs(int64_t groups) noexcept nogil:
    return (groups + 1) // 2


cdef inline int64_t whole_panels(int64_t n) noexcept nogil:
    """Rows of whole panels that hold n rows."""
    return (n + FARANN_CODE_PANEL - 1) // FARANN_CODE_PANEL * FARANN_CODE_PANEL


cdef inline int64_t whole_blocks(int64_t n) noexcept nogil:
    """Rows of one or more first blocks that hold n rows."""
    return (max(n, 1) + FIRST_BLOCK - 1) // FIRST_BLOCK * FIRST_BLOCK


cdef inline int64_t rows_in_cache(int64_t row_bytes) noexcept nogil:
    """Rows of a block: whole panels of every kind."""
    return min(max(BLOCK_BYTES // row_bytes // FIRST_BLOCK, 1) * FIRST_BLOCK, LARGEST_BLOCK)


cdef class Apart:
    cdef list threads
    cdef int64_t size       # of the pool
    cdef int64_t n_held     # threads that keep to some CPUs
    cdef int64_t held[16]
    cdef farann_cpus before[16]
    cdef object owner       # the thread that has entered it; None: there is none
    cdef void hold(self, int64_t thread, const farann_cpus *cpus)


cdef class CancelFlag:
    cdef int64_t raised


# The flag of calls that can't be canceled.
cdef int64_t NEVER

# The mechanisms left out by `leave_out`, a bit each; 0 except in measurements.
cdef int64_t left_out

# In the order of `MECHANISMS`.
cdef enum Mechanism:
    BEST_FIRST, CEILINGS, CODE_NOISE, COST_JUDGE, EARLY_FILTERS, FIRST_IN_FLOAT32, FIRST_ROWS
    HIGH_NIBBLES, INTEGER_KEYS, JOINED_NIBBLES, KEY_SCAN, LONGER_BLOCKS, MEMBER_ORDER, NIBBLE_JUDGE
    NORM_PRUNING, SELECTING, SHRINKING_BLOCKS, SINGLE_JUDGE, SINGLE_TILES, ZERO_COLUMNS


cdef inline bint uses(Mechanism mechanism) noexcept nogil:
    """Whether searches have a mechanism: all of them, but for measurements."""
    return not left_out >> <int>mechanism & 1


cdef enum:
    ALIGNMENT = 64  # bytes: a cache line, and the widest vector
    MOST_ALLOCATED = 64  # pieces of memory that a search may have


cdef inline void *aligned(void *memory) noexcept nogil:
    cdef uintptr_t address = <uintptr_t>memory
    return <void *>((address + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)


cdef class Scratch:
    cdef void *pieces[MOST_ALLOCATED]
    cdef int n_pieces
    cdef bint failed  # whether an allocation for answers failed

    cdef void *allocate(self, int64_t count, int64_t size, bint zeroed=*) except NULL
    cdef void *allocated(self, int64_t count, int64_t size, bint zeroed) noexcept nogil
