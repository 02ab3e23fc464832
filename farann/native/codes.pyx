"""8-bit codes: the transform before coding, coding, the codes of a base, and its partitions."""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport INT64_MAX

import numpy as np

from farann.native.kernels import widened

ctypedef fused real:
    float
    double

cdef enum:
    CODED_AT_ONCE = 1048576  # coordinates coded between looks for signals
    # Coordinates up to which float32 holds any sum of high nibbles exactly: below 2^24.
    MOST_HALVED = 8192
    # At most max(MOST_OUTLIERS, n_rows / FEWEST_CODED) rows of a base may be without codes.
    MOST_OUTLIERS = 64
    FEWEST_CODED = 256

# Bytes up to which the high nibbles of all codes stay in the cache and are not worth reading first.
CACHED_BYTES = 524288
HUB_ROWS = 512  # hubs: the first rows, scored before a PCA filter is used

# Limit on the scale of means that rows are coded relative to; coded coordinates are at most 1e18.
cdef double LARGEST_SCALE = 1e17

CODE_SPAN, MOST_AXES = <int>FARANN_SPAN, <int>LARGEST_BASIS


def code_rows(int64_t n):
    """Rows of whole panels that hold n rows."""
    return whole_panels(n)


cdef class Projection:
    """Orthonormal directions of `dim` coordinates, as `quantize.transform.Projection` has them;
    `name` is that of the argument, for errors."""

    def __init__(self, projection, int64_t dim, str name):
        directions = np.asarray(projection.directions, np.float64)
        if (directions.ndim != 2 or not 1 <= directions.shape[0] <= min(dim, LARGEST_BASIS)
                or directions.shape[1] != dim):
            raise ValueError(f"{name} must be up to {LARGEST_BASIS} directions of the rows' space")
        # First that products stay finite; NaN fails this, too.
        if not (np.abs(directions).max() < 2.0
                and np.linalg.norm(directions @ directions.T - np.eye(len(directions))) < 1e-12):
            raise ValueError(f"{name} must be orthonormal")
        self.n = len(directions)
        self.directions = np.zeros((self.n, (dim + 7) // 8 * 8))
        np.asarray(self.directions)[:, :dim] = directions

    cdef double residual_norm(self, const farann_kernels *kernels, const double *vector,
                              double *along) noexcept nogil:
        """Write a padded vector's component along each direction; return the norm of the rest."""
        return sqrt(farann_along(kernels, &self.directions[0, 0], self.n, self.directions.shape[1],
                                 vector, along))


cdef class Transform:
    """The transform of vectors before coding: a projection on axes, if there are any, and a
    rotation.

    Parameters
    ----------
    signs : int8 (3, n_coded)
        Of the rotation.
    axes : Projection or None
        n_coded directions; None: all dim coordinates are coded.
    """

    def __init__(self, const int8_t[:, ::1] signs, axes=None):
        cdef int64_t dim = signs.shape[1]
        if signs.shape[0] != FARANN_ROTATION_ROUNDS or dim < 1:
            raise ValueError("there must be signs for each round of the rotation")
        self.signs = np.array(signs, np.float64)
        self.record = farann_transform(&self.signs[0, 0], NULL, dim)
        if axes is not None:
            if np.ndim(axes.directions) != 2 or len(axes.directions) != dim:
                raise ValueError("there must be signs for each of the axes")
            dim = axes.directions.shape[1]
            self.axes = Projection(axes, dim, "axes")
            self.record.axes = &self.axes.directions[0, 0]
        self.dim = dim


def rotate(double[:, ::1] vectors, const int8_t[:, ::1] signs, str isa):
    """Rotate vectors in place, as rows are before they are coded; the same bits at all levels."""
    cdef Transform turn = Transform(signs)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef int64_t i, dim = signs.shape[1]
    cdef uint64_t before
    if vectors.shape[1] != dim:
        raise ValueError("there must be a sign for each coordinate")
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(vectors.shape[0]):
            kernels.rotate_f64(&vectors[i, 0], dim, turn.record.signs, FARANN_ROTATION_ROUNDS)
        farann_arithmetic_end(before)


def code_extents(rows, const double[::1] center, bint unit,
                 const int8_t[:, ::1] signs, axes, str isa, double[::1] extents):
    """Write each row's largest |coordinate|, centered and transformed, or its norm outside the
    axes if that is larger."""
    code_blocks(rows, center, unit, Transform(signs, axes), isa, extents, None, None, None, None)


def encode_rows(rows, const double[::1] center, bint unit,
                const int8_t[:, ::1] signs, axes, const float[::1] inv_scale, str isa,
                uint8_t[:, ::1] codes, double[::1] squares, float[::1] low_nibble_norm):
    """Code rows; return the largest |e|^2, |w z|^2, |l - 7.5|^2 and |z|^2, and for the part
    outside the axes |z'|^2 and |w z'|^2."""
    return code_blocks(rows, center, unit, Transform(signs, axes), isa, None, inv_scale, codes,
                       squares, low_nibble_norm)


cdef object code_blocks(
        rows, const double[::1] center, bint unit, Transform turn, str isa, double[::1] extents,
        const float[::1] inv_scale, uint8_t[:, ::1] codes, double[::1] squares,
        float[::1] low_nibble_norm):
    """Write the extents of rows, or else their codes, in blocks between looks for signals."""
    cdef double[::1] scratch = np.zeros(2 * padded(center.shape[0]))
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef double[::1] largest = np.zeros(FARANN_EXTREMES)
    cdef const float[:, ::1] wide
    cdef int64_t n, start = 0, n_rows = len(rows), dim = center.shape[0]
    cdef uint64_t before
    while start < n_rows:
        if start > 0:
            PyErr_CheckSignals()
        wide = widened(rows[start:start + max(CODED_AT_ONCE // dim, 1)])
        n = wide.shape[0]
        if wide.shape[1] != dim:
            raise ValueError("rows must have the dimension of the center")
        with nogil:
            before = farann_arithmetic_begin()
            if extents is not None:
                farann_code_extents(kernels, &wide[0, 0], n, dim, &center[0],
                                    unit, &turn.record, &scratch[0], &extents[start])
            else:
                farann_encode_rows(kernels, &wide[0, 0], n, dim, &center[0], unit,
                                   &turn.record, &inv_scale[start], &scratch[0], &codes[start, 0],
                                   &squares[start], &low_nibble_norm[start], &largest[0])
            farann_arithmetic_end(before)
        start += n
    return np.asarray(largest)


def add_to_groups(real[:, ::1] vectors, const int32_t[::1] groups, double[:, ::1] sums):
    """Add each vector, float32 or float64, to the sum of its group; -1 is none."""
    cdef int64_t i, j, group, n = vectors.shape[0], dim = sums.shape[1], n_groups = sums.shape[0]
    cdef const real *vector
    cdef double *total
    if groups.shape[0] != n or (n and vectors.shape[1] != dim):
        raise ValueError("each vector must have a group, and the dimension of sums")
    with nogil:
        for i in range(n):
            group = groups[i]
            if 0 <= group < n_groups and dim > 0:
                vector, total = &vectors[i, 0], &sums[group, 0]
                for j in range(dim):
                    total[j] += vector[j]


def pack_codes(const uint8_t[:, ::1] rows, const int64_t[::1] places, bint halves,
               uint8_t[:, ::1] panels, uint8_t[:, ::1] lower=None):
    """Lay the codes of rows out in panels: row i at position places[i], nowhere if negative."""
    cdef int64_t groups = rows.shape[1] // FARANN_CODE_GROUP
    cdef int64_t width = (code_pairs(groups) if halves else groups) * FARANN_CODE_GROUP
    if (rows.shape[1] % FARANN_CODE_GROUP or rows.shape[0] != places.shape[0]
            or panels.shape[0] % FARANN_CODE_PANEL or panels.shape[1] != width
            or (lower is not None and (lower.shape[0] != panels.shape[0]
                                       or lower.shape[1] != width or not halves))):
        raise ValueError("panels must have room for the rows")
    if np.max(places, initial=-1) >= panels.shape[0]:
        raise ValueError("places must be in the panels")
    if rows.shape[0] and panels.shape[0]:
        with nogil:
            farann_pack_codes(&rows[0, 0], &places[0], places.shape[0], groups, halves,
                              &panels[0, 0], NULL if lower is None else &lower[0, 0])


cdef class Codes:
    """8-bit codes of all rows of a snapshot's base, by position; several levels of them.

    docs/format.md says what each of `arrays` holds, a `CodeArrays`. `in_runs`: rows are sorted by
    reach within runs only, and the arrays have the reach of each panel.
    """

    def __init__(self, int64_t n_rows, int64_t dim, arrays, bint in_runs=False):
        cdef int64_t n = len(arrays.panels)
        # The pointers to codes point into these. Not the record, which has this object in turn: a
        # cycle would keep codes in memory until the garbage collector comes.
        self.arrays = list(vars(arrays).values())
        self.transform = Transform(arrays.signs, arrays.pca_axes)
        self.slots, self.outliers = arrays.slots, arrays.outliers
        self.has_pca_filter = arrays.pca_filter is not None
        self.whole_codes_first = arrays.whole_codes_first
        self.int4_alone = arrays.low_nibbles is None and not self.has_pca_filter
        self.n_rows, self.n_positions, self.dim = n_rows, n, dim
        self.n_coded = self.transform.signs.shape[1]
        self.groups = (self.n_coded + FARANN_CODE_GROUP - 1) // FARANN_CODE_GROUP
        if (n_rows < 1 or n < 1 or n % FARANN_CODE_PANEL or self.transform.dim != dim
                or (self.slots is None and (n < n_rows or self.outliers.shape[0]))):
            raise ValueError("panels, signs and slots must fit together")
        take_scanned(self, arrays)
        take_slots(self)
        take_norms(self, arrays, in_runs)
        self.bounds, self.refined = self.scan_bounds, self.scanned
        if self.has_pca_filter:
            take_whole(self, arrays)
        self.outside_noise = 1.0
        if self.bounds.outside > 0.0 and self.n_coded < dim:
            *_, usual = arrays.whole_bounds if self.has_pca_filter else arrays.bounds
            self.outside_noise = min(1.0, 3.0 * usual / (
                self.bounds.outside * sqrt(<double>(dim - self.n_coded))))


cdef take_slots(Codes codes):
    """Check where rows are, and count up to where there are any."""
    cdef int64_t i, n_outliers = codes.outliers.shape[0]
    if n_outliers > max(MOST_OUTLIERS, codes.n_rows // FEWEST_CODED):
        raise ValueError(f"there must be at most {MOST_OUTLIERS} outliers, or one row in "
                         f"{FEWEST_CODED}")
    for i in range(n_outliers):
        if not (codes.outliers[i - 1] if i else -1) < codes.outliers[i] < codes.n_rows:
            raise ValueError("outliers must be ascending slots of the base")
    # Panels that fill up behind the last row aren't counted as rows.
    codes.n_filled = codes.n_leading = codes.n_rows
    if codes.slots is None:
        return
    slots = np.asarray(codes.slots)
    if not -1 <= slots.min() <= slots.max() < codes.n_rows:
        raise ValueError("slots must be those of the base")
    filled = slots >= 0
    codes.n_filled = len(slots) - filled[::-1].argmax() if filled.any() else 0
    codes.n_leading = len(slots) if filled.all() else filled.argmin()


cdef take_scanned(Codes codes, arrays):
    """The codes to scan: nibbles of all coordinates, or codes along a PCA filter."""
    cdef int64_t n = codes.n_positions, parts = code_pairs(codes.groups), dim = codes.n_coded
    of_panels = (n // FARANN_CODE_PANEL,)
    needed = {"inv_scale": of_panels}
    optional = {"squares": (n,), "slots": (n,), "whole_squares": (n,), "max_norm": of_panels,
                "max_square": of_panels, "max_along": of_panels}
    codes.scanned.groups = codes.groups
    if codes.has_pca_filter:
        codes.pca_filter = Projection(arrays.pca_filter, codes.dim, "pca_filter")
        dim = codes.pca_filter.n
        # The last group holds the norm of the rest.
        parts = codes.scanned.groups = (dim - 1) // FARANN_CODE_GROUP + 2
        needed["whole"], needed["whole_inv_scale"] = (n, codes.groups * FARANN_CODE_GROUP), (n,)
        optional["low_nibbles"] = optional["low_nibble_norm"] = None
    else:
        needed["low_nibble_norm"] = of_panels
        optional["low_nibbles"] = (n, parts * FARANN_CODE_GROUP)
    codes.row_bytes = parts * FARANN_CODE_GROUP
    needed["panels"] = (n, codes.row_bytes)
    check_shapes(arrays, needed, optional)
    if arrays.low_nibble_norm is not None:
        largest_of(arrays.low_nibble_norm, "the norm of low nibbles")
    # A single query is bound by memory: it reads the high nibbles before the low ones.
    codes.high_nibbles_first = (arrays.low_nibbles is not None and codes.n_coded <= MOST_HALVED
                                and n * codes.row_bytes > CACHED_BYTES)
    codes.scanned = farann_coded_rows(
        bytes_of(arrays.panels), bytes_of(arrays.low_nibbles), NULL, floats_of(arrays.inv_scale),
        floats_of(arrays.low_nibble_norm), floats_of(arrays.squares), codes.scanned.groups)
    codes.scan_bounds = bounds_of(arrays.bounds, arrays.inv_scale, arrays.squares, dim)
    if codes.has_pca_filter != (codes.scan_bounds.rest_unit > 0.0):
        raise ValueError("the rest has a unit, if there is one")


cdef check_shapes(arrays, dict needed, dict optional):
    """Refuse arrays of other shapes; those that are optional may be None."""
    for name, shape in {**needed, **optional}.items():
        array = getattr(arrays, name)
        there = None if array is None else array.shape
        if there != shape and (name in needed or there is not None):
            raise ValueError(f"{name}: expected shape {shape}, got {there}")


cdef const uint8_t *bytes_of(const uint8_t[:, ::1] array) noexcept:
    return &array[0, 0] if array is not None else NULL


cdef const float *floats_of(const float[::1] array) noexcept:
    return &array[0] if array is not None else NULL


cdef take_norms(Codes codes, arrays, bint in_runs):
    """The largest norm from each panel on, where rows are sorted by norm."""
    longest, lead, along = arrays.max_norm, arrays.mean_query_direction, arrays.max_along
    codes.by_square = arrays.max_square is not None
    if codes.by_square:
        longest = arrays.max_square
    codes.max_norm = codes.max_along = codes.mean_query_direction = None
    if (lead is None) != (along is None) or (longest is None and along is not None):
        raise ValueError("mean_query_direction and max_along go together, beside max_norm: pass "
                         "both or neither")
    if longest is not None:
        largest_of(longest, "lengths")
        codes.max_norm = most_from_each_on(longest, in_runs)
    if lead is not None:
        if len(lead) != 1 or not np.isfinite(along).all():
            raise ValueError("mean_query_direction must be one direction, and max_along finite")
        codes.mean_query_direction = Projection(lead, codes.dim, "mean_query_direction")
        codes.max_along = most_from_each_on(along, in_runs)


cdef take_whole(Codes codes, arrays):
    """Beside a PCA filter: codes of all coordinates; those of the first rows, which every query
    scans, in panels, too."""
    cdef int64_t n = min(whole_panels(HUB_ROWS), codes.n_positions)
    codes.bounds = bounds_of(arrays.whole_bounds, arrays.whole_inv_scale, arrays.whole_squares,
                             codes.n_coded)
    if codes.bounds.rest_unit > 0.0 or (arrays.squares is None) != (arrays.whole_squares is None):
        raise ValueError("whole codes have no rest, and squares as panels have")
    codes.refined = farann_coded_rows(
        NULL, NULL, bytes_of(arrays.whole), floats_of(arrays.whole_inv_scale), NULL,
        floats_of(arrays.whole_squares), codes.groups)
    weights = arrays.whole_inv_scale.reshape(-1, FARANN_CODE_PANEL)
    if (weights != weights[:, :1]).any():
        raise ValueError("whole codes of a panel must have one scale")
    codes.hub_weights = np.ascontiguousarray(weights[:n // FARANN_CODE_PANEL, 0])
    codes.hub_panels = np.empty((n, codes.groups * FARANN_CODE_GROUP), np.uint8)
    pack_codes(arrays.whole[:n], np.arange(n), False, codes.hub_panels, None)
    codes.hubs = farann_coded_rows(&codes.hub_panels[0, 0], NULL, NULL, &codes.hub_weights[0],
                                   NULL, codes.refined.squares, codes.groups)
    codes.n_hubs = n


cdef most_from_each_on(values, bint in_runs):
    """The largest value from each panel on; in runs it is given."""
    if in_runs:
        return values.astype(np.float64)
    return np.maximum.accumulate(values[::-1].astype(np.float64))[::-1].copy()


cdef farann_code_bounds bounds_of(bounds, inv_scale, squares, int64_t dim) except *:
    """Error bounds of n coded rows, from their weights and squares."""
    cdef farann_code_bounds result
    inv_scale = np.asarray(inv_scale)
    smallest, largest = float(inv_scale.min()), float(inv_scale.max())
    if not 0.0 < smallest <= largest < INFINITY:
        raise ValueError("weights must be positive and finite")
    (result.residual, result.length, result.low_nibble_norm, result.norm, result.rest_unit,
     result.outside, result.outside_length, _) = bounds
    result.scale, result.largest_threshold = 1.0 / smallest, 2.0**29 / largest
    result.largest_square = 0.0
    if squares is not None:
        # Positive even where all rows are zero: 0 would mean that there are no squares.
        result.largest_square = max(largest_of(squares, "squares"), 1e-37)
    result.dim, result.noise = dim, 1.0
    if not all(0.0 <= bound < INFINITY for bound in bounds):
        raise ValueError("bounds must be finite and not negative")
    return result


cdef double largest_of(values, str name) except -1.0:
    """The largest value; ValueError if one is NaN, infinite or negative.

    Zero times each value must be zero: so no row passes for the empty places of a tile, whose
    candidates have no memory.
    """
    values = np.asarray(values)
    smallest, largest = float(values.min()), float(values.max())
    if not 0.0 <= smallest <= largest < INFINITY:
        raise ValueError(f"{name} must be finite and not negative")
    return largest


cdef class Partitions:
    """The positions of each cell, and each cell's mean as a coded row, from `PartitionArrays`."""

    def __init__(self, int64_t n_coded, int64_t n_positions, arrays):
        cdef int64_t n, groups = (n_coded - 1) // FARANN_CODE_GROUP + 2
        starts, weights = np.asarray(arrays.starts), np.asarray(arrays.inv_scale)
        self.arrays = list(vars(arrays).values())  # not the record, as in `Codes`
        self.starts, self.relative = arrays.starts, arrays.relative
        self.n_cells = len(starts) - 1
        self.n_padded = n = whole_panels(self.n_cells)
        if self.n_cells < 1 or (starts % FARANN_CODE_PANEL).any() or not (
                0 <= starts[0] and starts[self.n_cells] <= n_positions
                and (starts[1:] >= starts[:self.n_cells]).all()):
            raise ValueError("starts must be ascending positions of whole panels")
        check_shapes(arrays, {"panels": (n, groups * FARANN_CODE_GROUP),
                              "inv_scale": (n // FARANN_CODE_PANEL,)}, {"squares": (n,)})
        self.coded = farann_coded_rows(bytes_of(arrays.panels), NULL, NULL,
                                       floats_of(arrays.inv_scale), NULL,
                                       floats_of(arrays.squares), groups)
        self.bounds = bounds_of((0.0, 0.0, 0.0, 0.0, arrays.step, 0.0, 0.0, 0.0), weights,
                                arrays.squares, n_coded)
        if not self.bounds.rest_unit > 0.0:
            raise ValueError("deviations must have a unit")
        coded = arrays.panels.reshape(-1, groups, FARANN_CODE_PANEL, FARANN_CODE_GROUP)
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = (coded[:, -1, :, 0] - 128.0) * (
                arrays.step / weights.astype(np.float64)[:, None])
            self.deviations = deviations.ravel()
            total = float(deviations.ravel()[:self.n_cells].sum())
        if not fabs(total) < INFINITY:
            raise ValueError("deviations must be finite")
        if self.relative and not self.bounds.scale < LARGEST_SCALE:
            raise ValueError("means must be those of rows that have codes")

    cdef int64_t begun(self, int64_t position) noexcept nogil:
        """The number of `starts` at or before a position: one more than its cell."""
        cdef int64_t low = 0, high = self.n_cells + 1, middle
        while low < high:
            middle = (low + high) // 2
            if self.starts[middle] <= position:
                low = middle + 1
            else:
                high = middle
        return low

    cdef int64_t end_of_cell(self, int64_t position) noexcept nogil:
        """The end of the cell that a position is in, or of the rows before all cells."""
        cdef int64_t begun = self.begun(position)
        return self.starts[begun] if begun <= self.n_cells else INT64_MAX

    cdef double write_mean(self, int64_t position, int8_t *mean) noexcept nogil:
        """Write the mean that a row was coded relative to, whole groups; return its unit.

        The unit is 0 where the row is in no cell.
        """
        cdef int64_t cell = self.begun(position) - 1, g, j
        cdef const uint8_t *codes
        if not 0 <= cell < self.n_cells:
            return 0.0
        codes = self.coded.panels + FARANN_CODE_GROUP * (
            cell // FARANN_CODE_PANEL * FARANN_CODE_PANEL * self.coded.groups
            + cell % FARANN_CODE_PANEL)
        for g in range(self.coded.groups - 1):  # the last is the deviation
            for j in range(FARANN_CODE_GROUP):
                mean[g * FARANN_CODE_GROUP + j] = <int8_t>(
                    <int>codes[g * FARANN_CODE_PANEL * FARANN_CODE_GROUP + j] - 128)
        return 1.0 / self.coded.inv_scales[cell // FARANN_CODE_PANEL]
