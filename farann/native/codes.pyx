"""8-bit codes of all rows of a snapshot's base, and its partitions, as searches read them."""

from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport INT64_MAX

from farann.native.kernels cimport *

import numpy as np

from farann.native.encoding import pack_codes

cdef enum:
    # Coordinates up to which float32 holds any sum of high nibbles exactly: below 2^24.
    MOST_HALVED = 8192
    # At most max(MOST_OUTLIERS, n_rows / FEWEST_CODED) rows of a base may be without codes.
    MOST_OUTLIERS = 64
    FEWEST_CODED = 256

# Bytes up to which the high nibbles of all codes stay in the cache and are not worth reading first.
CACHED_BYTES = 524288

# Hubs: the first rows, which answer many queries; they are scored before a PCA filter is used.
HUB_ROWS = 512


cdef class Codes:
    """8-bit codes of all rows of a snapshot's base, by position; several levels of them.

    Parameters
    ----------
    n_rows, dim : int
        Of the base.
    arrays : CodeArrays
        With the attributes below.
    in_runs : bool
        Whether rows lie by reach in runs only, of which it says what each panel reaches.

    Attributes
    ----------
    panels : uint8 (n_positions, 4 * n)
        What is scanned, in panels of 16 rows, see `farann_coded_rows`. Without a `pca_filter` the
        high nibbles of all coordinates, n = ceil(ceil(n_coded / 4) / 2), of which there are dim, or
        one for each of the `pca_axes`. With it whole codes of those along it, and a last group for
        the length of the rest.
    low_nibbles : uint8, as panels, or None
        None with a `pca_filter`, and for 4-bit codes.
    inv_scale : float32 (n_positions / 16,)
        One over the scale of a panel's codes.
    low_nibble_norm : float32 (n_positions / 16,) or None
        Of nibbles: the largest |l - 7.5| of a panel's rows, with the low nibbles l.
    squares : float32 (n_positions,) or None
        |z|^2 times the inverse scale (l2).
    signs : int8 (3, n_coded)
        Of the rotation of all coordinates.
    slots : int32 (n_positions,) or None
        The slot of each position, -1 for none; None: they are the same.
    outliers : int64 (m,)
        Slots of the rows that are not coded.
    bounds : tuple of eight floats
        Of what is scanned: the largest |w z - c|, |w z|, |l - 7.5| and |z| of a row z with the
        inverse scale w and codes c, the first two less the mean that it is relative to; the unit of
        the rest, or 0; of what is outside the `pca_axes`, the largest |z'| and |w z'|, and the
        root of the mean of |z'|^2.
    pca_filter : Projection or None
    whole : uint8 (n_positions, 4 * ceil(n_coded / 4)) or None
        With a PCA filter: codes of all coordinates, row after row.
    whole_inv_scale : float32 (n_positions,) or None
    whole_squares, whole_bounds
        Of these, as above.
    max_norm : float32 (n_positions / 16,) or None
        The largest |z| of a panel's rows, where these lie by it; with a `mean_query_direction`, of
        what is not along it.
    mean_query_direction : Projection or None
        One direction, not under l2.
    max_along : float32 (n_positions / 16,) or None
        The most that a panel's rows are along that direction.
    pca_axes : Projection or None
        What rows are coded along, see `Transform`; not without vectors.
    whole_codes_first : bool
        Whether single exact queries read high and low nibbles together, however many there are.
    """

    def __init__(self, int64_t n_rows, int64_t dim, arrays, bint in_runs=False):
        cdef int64_t n
        if (arrays.panels is None or arrays.inv_scale is None or arrays.signs is None
                or arrays.outliers is None):
            raise TypeError("codes need panels, inv_scale, signs and outliers")
        self.transform = Transform(arrays.signs, arrays.pca_axes)
        self.panels, self.low_nibbles, self.whole = arrays.panels, arrays.low_nibbles, arrays.whole
        self.inv_scale, self.low_nibble_norm = arrays.inv_scale, arrays.low_nibble_norm
        self.squares, self.whole_inv_scale = arrays.squares, arrays.whole_inv_scale
        self.whole_squares = arrays.whole_squares
        self.slots, self.outliers = arrays.slots, arrays.outliers
        self.has_pca_filter = arrays.pca_filter is not None
        self.whole_codes_first = arrays.whole_codes_first
        self.int4_alone = self.low_nibbles is None and not self.has_pca_filter
        self.n_rows, self.n_positions, self.dim = n_rows, self.panels.shape[0], dim
        self.n_coded = self.transform.signs.shape[1]
        self.groups = (self.n_coded + FARANN_CODE_GROUP - 1) // FARANN_CODE_GROUP
        n = self.n_positions
        if (n_rows < 1 or n < 1 or n % FARANN_CODE_PANEL
                or self.inv_scale.shape[0] * FARANN_CODE_PANEL != n
                or self.transform.dim != dim
                or (self.slots is not None and self.slots.shape[0] != n)
                or (self.slots is None and (n < n_rows or self.outliers.shape[0]))):
            raise ValueError("panels, inv_scale, signs and slots must fit together")
        take_slots(self)
        take_scanned(self, arrays)
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
    cdef int64_t i, n_outliers = codes.outliers.shape[0], n = codes.n_positions
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
    for i in range(n):
        if not -1 <= codes.slots[i] < codes.n_rows:
            raise ValueError("slots must be those of the base")
    codes.n_filled, codes.n_leading = n, 0
    while codes.n_leading < n and codes.slots[codes.n_leading] >= 0:
        codes.n_leading += 1
    while codes.n_filled > 0 and codes.slots[codes.n_filled - 1] < 0:
        codes.n_filled -= 1


cdef take_scanned(Codes codes, arrays):
    """What is scanned: nibbles of all coordinates, or codes along a PCA filter."""
    cdef int64_t n = codes.n_positions, parts = code_pairs(codes.groups)
    cdef bint has_lower = codes.low_nibbles is not None
    # One query alone waits for memory: it reads the high nibbles before the low ones.
    codes.high_nibbles_first = (has_lower and codes.n_coded <= MOST_HALVED
                                and n * codes.panels.shape[1] > CACHED_BYTES)
    codes.scanned.groups = codes.groups
    if codes.has_pca_filter:
        codes.pca_filter = Projection(arrays.pca_filter, codes.dim, "pca_filter")
        # The last group is for the length of the rest.
        parts = (codes.pca_filter.n - 1) // FARANN_CODE_GROUP + 2
        codes.scanned.groups = parts
        if (codes.low_nibble_norm is not None or has_lower or codes.whole is None
                or codes.whole.shape[0] != n
                or codes.whole.shape[1] != codes.groups * FARANN_CODE_GROUP
                or codes.whole_inv_scale is None or codes.whole_inv_scale.shape[0] != n):
            raise ValueError("whole must hold all coordinates of all positions")
    elif (codes.low_nibble_norm is None
          or codes.low_nibble_norm.shape[0] != codes.inv_scale.shape[0]):
        raise ValueError("each panel needs a norm of its low nibbles")
    else:
        largest_of(codes.low_nibble_norm, "the norm of low nibbles")
        codes.scanned.low_nibble_norm = &codes.low_nibble_norm[0]
    if codes.panels.shape[1] != parts * FARANN_CODE_GROUP or (
            has_lower and (codes.low_nibbles.shape[0] != n
                           or codes.low_nibbles.shape[1] != codes.panels.shape[1])):
        raise ValueError("panels must hold the coordinates that are scanned")
    codes.scanned.panels, codes.scanned.inv_scales = &codes.panels[0, 0], &codes.inv_scale[0]
    if has_lower:
        codes.scanned.low_nibbles = &codes.low_nibbles[0, 0]
    codes.scan_bounds = bounds_of(
        arrays.bounds, arrays.inv_scale, arrays.squares, n,
        codes.pca_filter.n if codes.has_pca_filter else codes.n_coded)
    if codes.has_pca_filter != (codes.scan_bounds.rest_unit > 0.0):
        raise ValueError("the rest has a unit, if there is one")
    if codes.squares is not None:
        codes.scanned.squares = &codes.squares[0]


cdef take_norms(Codes codes, arrays, bint in_runs):
    """The largest norm from each panel on, where rows lie by that."""
    longest, lead, along = arrays.max_norm, arrays.mean_query_direction, arrays.max_along
    codes.max_norm = codes.max_along = codes.mean_query_direction = None
    if longest is not None:
        if longest.shape != (codes.inv_scale.shape[0],):
            raise ValueError("max_norm must have the longest row of each panel")
        largest_of(longest, "lengths")
        codes.max_norm = most_from_each_on(longest, in_runs)
    if lead is not None or along is not None:
        if longest is None or lead is None or along is None or along.shape != longest.shape:
            raise ValueError("mean_query_direction and max_along go together, beside max_norm: "
                             "pass both or neither")
        if not np.isfinite(along).all():
            raise ValueError("max_along must be finite")
        if len(lead) != 1:
            raise ValueError("mean_query_direction must be one direction")
        codes.mean_query_direction = Projection(lead, codes.dim, "mean_query_direction")
        codes.max_along = most_from_each_on(along, in_runs)


cdef take_whole(Codes codes, arrays):
    """Beside a PCA filter: codes of all coordinates."""
    codes.bounds = bounds_of(arrays.whole_bounds, arrays.whole_inv_scale, arrays.whole_squares,
                             codes.n_positions, codes.n_coded)
    if codes.bounds.rest_unit > 0.0 or (codes.squares is None) != (codes.whole_squares is None):
        raise ValueError("whole codes have no rest, and squares as panels have")
    codes.refined = farann_coded_rows(NULL, NULL, &codes.whole[0, 0], &codes.whole_inv_scale[0],
                                      NULL, NULL, codes.groups)
    if codes.whole_squares is not None:
        codes.refined.squares = &codes.whole_squares[0]
    take_hubs(codes)


cdef take_hubs(Codes codes):
    """Lay the whole codes of the first rows out in panels: all queries look at these."""
    cdef int64_t n = min(whole_panels(HUB_ROWS), codes.n_positions)
    weights = np.asarray(codes.whole_inv_scale).reshape(-1, FARANN_CODE_PANEL)
    if (weights != weights[:, :1]).any():
        raise ValueError("whole codes of a panel must have one scale")
    codes.hub_weights = np.ascontiguousarray(weights[:n // FARANN_CODE_PANEL, 0])
    codes.hub_panels = np.empty((n, codes.groups * FARANN_CODE_GROUP), np.uint8)
    pack_codes(codes.whole[:n], np.arange(n), False, codes.hub_panels, None)
    codes.hubs = farann_coded_rows(&codes.hub_panels[0, 0], NULL, NULL, &codes.hub_weights[0],
                                   NULL, codes.refined.squares, codes.groups)
    codes.n_hubs = n


cdef most_from_each_on(values, bint in_runs):
    """The largest value from each panel on; in runs it is given."""
    if in_runs:
        return values.astype(np.float64)
    return np.maximum.accumulate(values[::-1].astype(np.float64))[::-1].copy()


cdef farann_code_bounds bounds_of(bounds, inv_scale, squares, int64_t n, int64_t dim) except *:
    """Bounds of n coded rows, with what follows from their weights and squares."""
    cdef farann_code_bounds result
    inv_scale = np.asarray(inv_scale)
    smallest, largest = float(inv_scale.min()), float(inv_scale.max())
    if not 0.0 < smallest <= largest < INFINITY:
        raise ValueError("weights must be positive and finite")
    (result.residual, result.length, result.low_nibble_norm, result.norm, result.rest_unit,
     result.outside, result.outside_length, usual) = bounds
    result.scale, result.largest_threshold = 1.0 / smallest, 2.0**29 / largest
    result.largest_square = 0.0
    if squares is not None:
        if len(squares) != n:
            raise ValueError("there must be a square for each position")
        # Positive even where all rows are zero: it tells that there are squares.
        result.largest_square = max(largest_of(squares, "squares"), 1e-37)
    result.dim = dim
    if not (0.0 <= result.residual < INFINITY and 0.0 <= result.length < INFINITY
            and 0.0 <= result.low_nibble_norm < INFINITY and 0.0 <= result.norm < INFINITY
            and 0.0 <= result.rest_unit < INFINITY and 0.0 <= result.outside < INFINITY
            and 0.0 <= result.outside_length < INFINITY and 0.0 <= usual < INFINITY):
        raise ValueError("bounds must be finite and not negative")
    return result


cdef double largest_of(values, str name) except -1.0:
    """The largest of values that are none of them NaN, infinite or negative.

    Zero times any of them must be zero: where a tile has fewer queries than it is wide, that keeps
    rows from passing for the rest, whose candidates have no memory.
    """
    values = np.asarray(values)
    smallest, largest = float(values.min()), float(values.max())
    if not 0.0 <= smallest <= largest < INFINITY:
        raise ValueError(f"{name} must be finite and not negative")
    return largest


# Limit on the scale of means that rows are coded relative to; coded coordinates are at most 1e18.
cdef double LARGEST_SCALE = 1e17


cdef class Partitions:
    """Which positions of codes belong to which cell, and each cell as a coded row.

    Parameters
    ----------
    n_coded, n_positions : int
        Of the codes.
    arrays : PartitionArrays
        With the attributes below.

    Attributes
    ----------
    starts : int64 (n_cells + 1,)
        Cell c has the positions starts[c] .. starts[c + 1], whole panels; what comes before
        starts[0] belongs to no cell and is always searched.
    panels : uint8 (n, 4 * (ceil(n_coded / 4) + 1))
        The cells' means in whole codes, laid out as rows along a basis are, turned by the same
        rotation as rows; the last group is the standard deviation of a cell's rows along one
        direction.
    inv_scale : float32 (n / 16,)
        As for rows.
    squares : float32 (n,) or None
        The mean of |z|^2 over a cell's rows, times the weight (l2).
    step : float
        Of the deviations.
    relative : bool
        Whether rows of a cell were coded less its mean, as coded.
    """

    def __init__(self, int64_t n_coded, int64_t n_positions, arrays):
        cdef int64_t i, n, groups = (n_coded - 1) // FARANN_CODE_GROUP + 2
        cdef double unit = arrays.step
        cdef const int64_t[::1] starts = arrays.starts
        cdef const uint8_t[:, ::1] panels = arrays.panels
        cdef const float[::1] weights = arrays.inv_scale
        squares = arrays.squares
        if starts is None or panels is None or weights is None:
            raise TypeError("partitions need starts, panels and weights")
        n = panels.shape[0]
        self.n_cells, self.n_padded = starts.shape[0] - 1, n
        self.starts, self.panels, self.weights, self.squares = starts, panels, weights, squares
        self.relative = arrays.relative
        if (self.n_cells < 1 or n != whole_panels(self.n_cells)
                or weights.shape[0] * FARANN_CODE_PANEL != n
                or panels.shape[1] != groups * FARANN_CODE_GROUP):
            raise ValueError("starts, panels and weights must fit together")
        for i in range(self.n_cells + 1):
            if not (starts[i - 1] if i else 0) <= starts[i] <= n_positions or (
                    starts[i] % FARANN_CODE_PANEL):
                raise ValueError("starts must be ascending positions of whole panels")
        self.bounds = bounds_of((0.0, 0.0, 0.0, 0.0, unit, 0.0, 0.0, 0.0), weights, squares,
                                n, n_coded)
        if not self.bounds.rest_unit > 0.0:
            raise ValueError("deviations must have a unit")
        coded = np.asarray(panels).reshape(-1, groups, FARANN_CODE_PANEL, FARANN_CODE_GROUP)
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = (coded[:, -1, :, 0] - 128.0) * (
                unit / np.asarray(weights, np.float64)[:, None])
            self.deviations = deviations.ravel()
            self.deviation = np.asarray(self.deviations)[:self.n_cells].mean()
        if not fabs(self.deviation) < INFINITY:
            raise ValueError("deviations must be finite")
        if self.relative and not self.bounds.scale < LARGEST_SCALE:
            raise ValueError("means must be those of rows that have codes")
        self.coded = farann_coded_rows(&panels[0, 0], NULL, NULL, &weights[0], NULL, NULL, groups)
        if self.squares is not None:
            self.coded.squares = &self.squares[0]

    cdef int64_t usual_size(self) noexcept nogil:
        """Positions of a cell, on average; at least 1."""
        return max((self.starts[self.n_cells] - self.starts[0]) // self.n_cells, 1)

    cdef int64_t begun(self, int64_t position) noexcept nogil:
        """How many of `starts` are at a position or before: one more than the cell it is in."""
        cdef int64_t low = 0, high = self.n_cells + 1, middle
        while low < high:
            middle = (low + high) // 2
            if self.starts[middle] <= position:
                low = middle + 1
            else:
                high = middle
        return low

    cdef int64_t end_of_cell(self, int64_t position) noexcept nogil:
        """The position where the cell ends that a position is in, or what comes before cells."""
        cdef int64_t begun = self.begun(position)
        return self.starts[begun] if begun <= self.n_cells else INT64_MAX

    cdef double write_mean(self, int64_t position, int8_t *mean) noexcept nogil:
        """Write what a row at a position was coded relative to, whole groups; gives its unit.

        That is 0 where the row is in no cell.
        """
        cdef int64_t cell = self.begun(position) - 1, g, j
        cdef const uint8_t *codes
        if not 0 <= cell < self.n_cells:
            return 0.0
        codes = &self.panels[cell // FARANN_CODE_PANEL * FARANN_CODE_PANEL, 0] + (
            cell % FARANN_CODE_PANEL * FARANN_CODE_GROUP)
        for g in range(self.coded.groups - 1):  # the last is the deviation
            for j in range(FARANN_CODE_GROUP):
                mean[g * FARANN_CODE_GROUP + j] = <int8_t>(
                    <int>codes[g * FARANN_CODE_PANEL * FARANN_CODE_GROUP + j] - 128)
        return 1.0 / self.weights[cell // FARANN_CODE_PANEL]
