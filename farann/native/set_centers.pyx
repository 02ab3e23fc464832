"""One more query for each set: a weighted mean of its members, whose key bounds that of the set.

The smallest of some keys is at most their mean with any weights. For each metric that is the key for
the mean of the members, but for a number that does not depend on the row. So one query in the place
of many rules most rows out. Its weights are such that the set's threshold is as many standard deviations
above the mean of this key as can be, as a sample of rows says; whatever they are, the bound holds.
"""

cimport cython
from libc.math cimport INFINITY, NAN, exp, fabs, isfinite, sqrt
from libc.stdint cimport int64_t

from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport *
from farann.native.member_sets cimport MemberSet, MemberSets
from farann.native.query_batch cimport Query, QueryBatch

cdef enum:
    # Members of a set that are weighed at most, and steps of that.
    MOST_WEIGHED = 64
    STEPS = 24

cdef double UNIT = 2.0**-51  # of float64 arithmetic, with room


@cython.no_gc  # what parts refer to never refers to them
cdef class SetCenters:
    """The centers of all sets of a batch, which follow the members among its queries."""

    @staticmethod
    cdef SetCenters of(MemberSets members, CodedQueries coded, float[:, ::1] given):
        cdef SetCenters self = SetCenters.__new__(SetCenters)
        cdef QueryBatch batch = members.batch
        cdef int64_t s, m, room = 0
        self.batch, self.members, self.coded, self.given = batch, members, coded, given
        self.weights = <double *>batch.scratch.allocate(
            3 * (batch.n_queries - members.count), sizeof(double))
        self.best = self.weights + batch.n_queries - members.count
        self.pull = self.best + batch.n_queries - members.count
        for s in range(members.count):
            m = members.sets[s].end - members.sets[s].first
            members.sets[s].moments = room
            if self.can_weigh(&members.sets[s]):
                room += m * (m + 1)
        self.moments = <double *>batch.scratch.allocate(room + 1, sizeof(double))
        self.sum = <double *>batch.scratch.allocate(padded(batch.dim), sizeof(double))
        return self

    cdef bint can_weigh(self, const MemberSet *members) noexcept nogil:
        return 1 < members.end - members.first <= MOST_WEIGHED

    cdef double estimate(self, const MemberSet *members, int64_t i, float score) noexcept nogil:
        """The key that a score for the i-th member means; 0 where it has no codes."""
        cdef const Query *query = &self.batch.queries[members.first + i]
        if not query.coded:
            return 0.0
        if self.members.are_raw(members):
            return (score - query.prepared.key_offset) / query.prepared.key_scale
        return score - query.prepared.key_offset

    cdef void take_sample(self, MemberSet *members, const float *scores, int64_t n) noexcept nogil:
        """See means and covariances of the keys for its members, by scores of n rows."""
        cdef int64_t m = members.end - members.first, i, j, r
        cdef double *means = self.moments + members.moments
        cdef double *covariances = means + m
        cdef double total
        members.has_moments = True
        for i in range(m):
            total = 0.0
            for r in range(n):
                total += self.estimate(members, i, scores[i * n + r])
            means[i] = total / n
        for i in range(m):
            for j in range(i + 1):
                total = 0.0
                for r in range(n):
                    total += ((self.estimate(members, i, scores[i * n + r]) - means[i])
                              * (self.estimate(members, j, scores[j * n + r]) - means[j]))
                covariances[i * m + j] = covariances[j * m + i] = total / n

    cdef void find(self, MemberSet *members) noexcept nogil:
        """Find the center of a set for its threshold."""
        cdef Query *query = &self.batch.queries[members.center]
        self.weigh(members)
        members.gap = self.place(members)
        members.has_center = False
        if not isfinite(members.gap):
            return
        self.batch.find_query_vector(members.center)
        # Under cosine, members on all sides have no center.
        if not (query.prepared.query_norm > UNIT) or not isfinite(query.prepared.key_scale):
            return
        self.coded.encode(members.center)
        query.pass_floor = NAN
        members.has_center = query.coded

    cdef void weigh(self, const MemberSet *members) noexcept nogil:
        """Find the best weights by multiplicative steps along the slope."""
        cdef int64_t m = members.end - members.first, i, j, t
        cdef const double *means = self.moments + members.moments
        cdef const double *covariances = means + m
        cdef double above, variance, deviations, most = -INFINITY, total, slope
        for i in range(m):
            self.weights[i] = self.best[i] = 1.0 / m
        if not members.has_moments or members.threshold == -INFINITY:
            return
        for t in range(STEPS):
            above, variance = members.threshold, 0.0
            for i in range(m):
                total = 0.0
                for j in range(m):
                    total += covariances[i * m + j] * self.weights[j]
                self.pull[i] = total
                above -= self.weights[i] * means[i]
                variance += self.weights[i] * total
            deviations = above / sqrt(variance)
            if not isfinite(deviations):
                return
            if deviations > most:
                most = deviations
                for i in range(m):
                    self.best[i] = self.weights[i]
            total, slope = 0.0, 0.0
            for i in range(m):
                self.pull[i] = -means[i] - above / variance * self.pull[i]
                total += self.weights[i] * self.pull[i]
            for i in range(m):
                self.pull[i] -= total
                slope = max(slope, fabs(self.pull[i]))
            if not (0.0 < slope < INFINITY):
                return
            total = 0.0
            for i in range(m):
                self.weights[i] *= exp(self.pull[i] / (slope * sqrt(t + 1.0)))
                total += self.weights[i]
            for i in range(m):
                self.weights[i] /= total

    cdef double place(self, const MemberSet *members) noexcept nogil:
        """Write the center; gives how much the key over the set may be above that for it.

        With t for what members are from the rows' center, w their weights, c for the sum of w t, and
        z for c in float32: under l2 the mean of |y - t|^2 is |y - z|^2 + the sum of w |t|^2 - |z|^2
        + 2 <y, z - c>. A product has only the last part, without the 2.
        """
        cdef int64_t i, j, dim = self.batch.dim
        cdef float *center = &self.given[members.center, 0]
        cdef const float *given
        cdef const double *origin = &self.batch.snapshot.full_centre[0]
        cdef bint l2 = self.batch.metric == FARANN_L2, unit = self.batch.metric == FARANN_COSINE
        cdef double weight, scale, squares = 0.0, off = 0.0, most = 0.0, own, length = 0.0, x
        cdef double reach = self.coded.codes.bounds.norm
        if unit:
            reach = 1.0
        elif not l2:
            reach += self.batch.snapshot.centre_norm
        for j in range(dim):
            self.sum[j] = 0.0
        for i in range(members.end - members.first):
            given, weight = self.batch.queries[members.first + i].given, self.best[i]
            scale = 1.0
            if unit and not self.members.are_raw(members):
                scale = 1.0 / self.batch.queries[members.first + i].prepared.query_norm
            own = 0.0
            for j in range(dim):
                x = given[j] * scale
                self.sum[j] += weight * x
                x -= origin[j] if l2 else 0.0
                own += x * x
            squares += weight * own
            most = max(most, sqrt(own))
        for j in range(dim):
            center[j] = <float>self.sum[j]
            x = center[j]
            off += (x - self.sum[j]) * (x - self.sum[j])
            x -= origin[j] if l2 else 0.0
            length += x * x
        # Exact keys are rounded, and so are these sums.
        most = (most + reach) * (most + reach) if l2 else most * reach
        most *= UNIT * (dim + members.end - members.first + 32)
        off = sqrt(off) * reach * (1.0 + 1e-9) + most
        return 2.0 * off + squares - length if l2 else off
