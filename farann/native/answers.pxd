"""What searches have found."""

from farann.native.candidates cimport Candidates
from farann.native.query_batch cimport QueryBatch


cdef class Answers:
    cdef QueryBatch batch
    cdef Candidates candidates
