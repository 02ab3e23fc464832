from farann.native.codes cimport Codes
from farann.native.kernels cimport *
from farann.native.query_batch cimport QueryBatch


cdef struct CodedQuery:
    farann_coded_query scan   # for what is scanned
    farann_coded_query whole  # for all coordinates
    double along, across      # component along the mean query direction, length of the rest
    bint usable               # whether codes can score the query


cdef struct QueryCodes:
    uint32_t *of              # codes of all queries, one after the other
    uint32_t *tile            # a tile of some of them
    int64_t groups            # words of a query


cdef class CodedQueries:
    cdef QueryBatch batch
    cdef Codes codes            # of the rows that are searched
    cdef farann_code_bounds bounds, scan_bounds  # error bounds of whole and of scanned codes
    cdef double outside_counts  # share of the part outside the axes in the error bound
    cdef bint approximate, pca_filtered  # rows are scanned along the PCA axes first
    cdef int64_t width          # queries of a tile
    cdef CodedQuery *of         # by query
    cdef QueryCodes scanned     # of the coordinates that are scanned
    cdef QueryCodes whole       # of all coordinates: the same but for a PCA filter
    cdef uint32_t *tiles        # scanned codes in tiles, in the order of queries
    cdef int64_t tile_words     # from one tile to the next
    cdef uint8_t *code_bytes

    @staticmethod
    cdef CodedQueries of_batch(QueryBatch batch, Codes codes, bint approximate, bint pca_filtered,
                               bint one_by_one=*)
    cdef QueryCodes room_for(self, int64_t groups) except *
    cdef const uint32_t *tile_of(self, const QueryCodes *codes, const int64_t *members,
                                 int64_t count, int64_t width) noexcept nogil
    cdef void make_tiles(self) noexcept nogil
    cdef void encode(self, int64_t i) noexcept nogil
