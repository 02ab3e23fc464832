"""Rows that are furthest from the nearest member of a set."""

from libc.stdint cimport int64_t

from farann.native.codes cimport Codes
from farann.native.task cimport Task
from farann.native.set_collector cimport SetCollector


cdef class SetSearch(Task):
    cdef SetCollector sets

    cdef put_codes_together(self, Codes codes, int64_t budget)
    cdef add_some(self, Codes codes, int64_t first, int64_t stop)
