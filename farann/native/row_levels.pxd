from farann.native.collector cimport Collector
from farann.native.judge cimport Judge
from farann.native.levels cimport Level
from farann.native.query_batch cimport QueryBatch


cdef Level float_level_of(QueryBatch batch, Collector collector, bint begins)
cdef Level key_level_of(QueryBatch batch, Collector collector, Judge judge)
