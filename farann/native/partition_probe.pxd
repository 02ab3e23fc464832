"""Probing partitions: each is scanned for all queries that chose it."""

from libc.stdint cimport int32_t, int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.ordered_scan cimport OrderedScan
from farann.native.partition_choice cimport PartitionChoice
from farann.native.partitions cimport Partitions
from farann.native.query_batch cimport QueryBatch
from farann.native.uncoded_rows cimport UncodedRows


cdef class PartitionProbe:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef UncodedRows uncoded
    cdef PartitionChoice choice
    cdef OrderedScan ordered
    cdef Partitions partitions
    cdef int64_t *heads  # a partition's first probe
    cdef int32_t *probers  # queries, partition after partition

    @staticmethod
    cdef PartitionProbe of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                           CodeScan code_scan, OrderedScan ordered, PartitionChoice choice)
    cdef void run(self) noexcept nogil
    cdef void choose_for_all(self) noexcept nogil
    cdef void start_again(self) noexcept nogil
    cdef void probe_all(self) noexcept nogil
    cdef void probe_for_one(self, int64_t member) noexcept nogil
    cdef void ask_for(self, int64_t c) noexcept nogil
    cdef void probe_partition(self, int64_t c) noexcept nogil
