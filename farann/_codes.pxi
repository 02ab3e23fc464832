# 8-bit codes of rows: making them, and what a search reads. Part of _core.pyx.

cdef class Turn:
    """What vectors go through before they are coded: a stretch, if there is one, axes, if only what
    they are along these is coded, and a rotation.

    Parameters
    ----------
    signs : int8 (3, n_coded)
        Of the rotation.
    stretch : float64 (dim,) or None
        p: rows are multiplied with I + p p', weights with its inverse.
    axes : float64 (n_coded, dim) or None
        Orthonormal directions; None: all dim coordinates are coded.
    """

    cdef farann_turn given
    cdef double[:, ::1] signs
    cdef double[::1] stretch  # with zeros up to a multiple of 8
    cdef double[:, ::1] axes  # likewise
    cdef int64_t dim

    def __init__(self, const int8_t[:, ::1] signs, stretch=None, axes=None):
        cdef int64_t dim = signs.shape[1]
        cdef double squares = 0.0
        if signs.shape[0] != FARANN_ROTATION_ROUNDS or dim < 1:
            raise ValueError("there must be signs for each round of the rotation")
        self.signs = np.array(signs, np.float64)
        self.given = farann_turn(&self.signs[0, 0], NULL, 1.0, NULL, dim)
        if axes is not None:
            if np.ndim(axes) != 2 or len(axes) != dim:
                raise ValueError("there must be signs for each of the axes")
            dim = axes.shape[1]
            self.axes = orthonormal(axes, dim, "axes")
            self.given.axes = &self.axes[0, 0]
        self.dim = dim
        if stretch is None:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            squares = float(np.square(stretch, dtype=np.float64).sum())
        # NaN fails this, too; the rest pays for rounding.
        if np.shape(stretch) != (dim,) or not squares < (FARANN_STRETCH - 1) * (1.0 + 1e-9):
            raise ValueError(f"a stretch must be a direction of the rows' space, by up to "
                             f"{FARANN_STRETCH} times")
        self.stretch = np.zeros(padded(dim))
        np.asarray(self.stretch)[:dim] = stretch
        self.given.stretch, self.given.shrink = &self.stretch[0], 1.0 / (1.0 + squares)


def rotate(double[:, ::1] vectors, const int8_t[:, ::1] signs, str isa):
    """Rotate vectors in place, as rows are before they are coded; the same bits at all levels."""
    cdef Turn turn = Turn(signs)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef int64_t i, dim = signs.shape[1]
    cdef uint64_t before
    if vectors.shape[1] != dim:
        raise ValueError("there must be a sign for each coordinate")
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(vectors.shape[0]):
            kernels.rotate_f64(&vectors[i, 0], dim, turn.given.signs, FARANN_ROTATION_ROUNDS)
        farann_arithmetic_end(before)


def code_extents(const float[:, ::1] rows, const double[::1] centre, bint unit,
                 const int8_t[:, ::1] signs, stretch, axes, str isa, double[::1] extents):
    """Write each row's largest |coordinate| after centring, and what `Turn` says, or how long the
    row is outside the axes, if that is more."""
    cdef double[::1] scratch = np.zeros(2 * padded(centre.shape[0]))
    cdef Turn turn = Turn(signs, stretch, axes)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef int64_t n, start = 0
    cdef uint64_t before
    while start < rows.shape[0]:
        n = coded_at_once(rows.shape[0] - start, rows.shape[1])
        with nogil:
            before = farann_arithmetic_begin()
            farann_code_extents(kernels, &rows[start, 0], n, rows.shape[1], &centre[0],
                                unit, &turn.given, &scratch[0], &extents[start])
            farann_arithmetic_end(before)
        start += n
        PyErr_CheckSignals()


cdef int64_t coded_at_once(int64_t left, int64_t dim) noexcept nogil:
    """How many rows to code before signals are looked for."""
    return min(left, max(CODED_AT_ONCE // dim, 1))


def encode_rows(const float[:, ::1] rows, const double[::1] centre, bint unit,
                const int8_t[:, ::1] signs, stretch, axes, const float[::1] weights, str isa,
                uint8_t[:, ::1] codes, double[::1] squares, float[::1] unknown):
    """Code rows, one after the other; gives the largest |e|^2, |w z|^2, |l - 7.5|^2 and |z|^2, and
    of what is outside the axes |z'|^2 and |w z'|^2."""
    cdef double[::1] scratch = np.zeros(2 * padded(centre.shape[0]))
    cdef Turn turn = Turn(signs, stretch, axes)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef farann_code_extremes largest
    cdef int64_t n, start = 0
    cdef uint64_t before
    largest.residual = largest.length = largest.unknown = largest.norm = 0.0
    largest.outside = largest.outside_length = 0.0
    while start < rows.shape[0]:
        n = coded_at_once(rows.shape[0] - start, rows.shape[1])
        with nogil:
            before = farann_arithmetic_begin()
            farann_encode_rows(kernels, &rows[start, 0], n, rows.shape[1], &centre[0], unit,
                               &turn.given, &weights[start], &scratch[0], &codes[start, 0],
                               &squares[start], &unknown[start], &largest)
            farann_arithmetic_end(before)
        start += n
        PyErr_CheckSignals()
    return (largest.residual, largest.length, largest.unknown, largest.norm, largest.outside,
            largest.outside_length)


def pack_codes(const uint8_t[:, ::1] rows, const int64_t[::1] places, bint halves,
               uint8_t[:, ::1] panels, uint8_t[:, ::1] lower=None):
    """Lay the codes of rows out in panels: row i at position places[i], nowhere if negative."""
    cdef int64_t i, groups = rows.shape[1] // FARANN_CODE_GROUP
    cdef int64_t width = (code_pairs(groups) if halves else groups) * FARANN_CODE_GROUP
    if (rows.shape[1] % FARANN_CODE_GROUP or rows.shape[0] != places.shape[0]
            or panels.shape[0] % FARANN_CODE_PANEL or panels.shape[1] != width
            or (lower is not None and (lower.shape[0] != panels.shape[0]
                                       or lower.shape[1] != width or not halves))):
        raise ValueError("panels must have room for the rows")
    for i in range(places.shape[0]):
        if places[i] >= panels.shape[0]:
            raise ValueError("places must be in the panels")
    if rows.shape[0] and panels.shape[0]:
        with nogil:
            farann_pack_codes(&rows[0, 0], &places[0], places.shape[0], groups, halves,
                              &panels[0, 0], NULL if lower is None else &lower[0, 0])


cdef int64_t code_pairs(int64_t groups) noexcept nogil:
    return (groups + 1) // 2


CODE_SPAN, LARGEST_STRETCH, MOST_AXES = <int>FARANN_SPAN, <int>FARANN_STRETCH, <int>LARGEST_BASIS


def code_rows(int64_t n):
    """Rows of whole panels that hold n rows."""
    return (n + FARANN_CODE_PANEL - 1) // FARANN_CODE_PANEL * FARANN_CODE_PANEL


# Upper halves of codes that take less are in the cache, and not worth reading first.
CACHED_BYTES = 524288

# Of a layout with a first look so many rows come before it: the first, which answer many queries.
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
        What is scanned, in panels of 16 rows, see `farann_coded_rows`. Without a `basis` the upper
        halves of all coordinates, n = ceil(ceil(n_coded / 4) / 2), of which there are dim, or one
        for each of the `axes`. With it whole codes of those along it, and a last group for the
        length of the rest.
    low_nibbles : uint8, as panels, or None
        The lower halves; None with a `basis`, and for 4-bit codes.
    inv_scale : float32 (n_positions / 16,)
        One over the scale of a panel's codes.
    low_nibble_norm : float32 (n_positions / 16,) or None
        Of halves: the largest |l - 7.5| of a panel's rows, with the lower halves l.
    squares : float32 (n_positions,) or None
        |z|^2 times the weight (l2).
    signs : int8 (3, n_coded)
        Of the rotation of all coordinates.
    slots : int32 (n_positions,) or None
        The slot of each position, -1 for none; None: they are the same.
    outliers : int64 (m,)
        Slots of the rows that are not coded.
    bounds : tuple of eight floats
        Of what is scanned: the largest |w z - c|, |w z|, |l - 7.5| and |z| of a row z with the
        weight w and codes c, the first two less the mean that it is relative to; the unit of the
        rest, or 0; of what is outside the `axes`, the largest |z'| and |w z'|, and the
        root of the mean of |z'|^2.
    pca_filter : float64 (m, dim) or None
        Orthonormal directions.
    whole : uint8 (n_positions, 4 * ceil(n_coded / 4)) or None
        With a basis: codes of all coordinates, row after row.
    whole_inv_scale : float32 (n_positions,) or None
    whole_squares, whole_bounds
        Of these, as above.
    max_norm : float32 (n_positions / 16,) or None
        The largest |z| of a panel's rows, where these lie by it; with a `lead`, of what is not
        along it.
    mean_query_direction : float64 (dim,) or None
        A direction, of length 1, not under l2.
    max_along : float32 (n_positions / 16,) or None
        The most that a panel's rows are along the lead.
    mean_direction_scaling : float64 (dim,) or None
        Of rows before they are coded, see `Turn`; not under l2, nor for 4-bit codes.
    pca_axes : float64 (n_coded, dim) or None
        What rows are coded along, see `Turn`; not without vectors.
    """

    cdef const uint8_t[:, ::1] panels, lower, whole
    cdef const float[::1] weights, unknown, squares, whole_weights, whole_squares
    cdef const int32_t[::1] slots
    cdef Turn turn
    cdef double[:, ::1] basis  # padded with zeros to a multiple of 8
    cdef const int64_t[::1] outliers
    # None, or the largest |z| from each panel on, or what isn't along; in runs: as given.
    cdef double[::1] reach
    cdef double[:, ::1] lead  # None, or a direction, padded with zeros
    cdef double[::1] reach_along  # the most along it, likewise
    cdef farann_coded_rows scanned, refined
    cdef farann_coded_rows hubs  # with a basis: the first rows, in panels of whole codes
    cdef uint8_t[:, ::1] hub_panels
    cdef float[::1] hub_weights
    cdef int64_t n_hubs
    cdef farann_code_bounds bounds, scan_bounds
    cdef double outside_noise  # three deviations of what is outside the axes, by the most there is
    cdef bint has_basis, upper_alone, halves_first
    cdef int64_t n_rows, n_positions, n_coded, dim, groups
    cdef readonly int64_t n_filled  # positions up to the last that has a row
    cdef int64_t n_leading  # positions before the first that is empty
    cdef object places  # see `places_of`

    def __init__(self, int64_t n_rows, int64_t dim, arrays, bint in_runs=False):
        cdef int64_t n
        if (arrays.panels is None or arrays.inv_scale is None or arrays.signs is None
                or arrays.outliers is None):
            raise TypeError("codes need panels, weights, signs and outliers")
        self.turn = Turn(arrays.signs, arrays.mean_direction_scaling, arrays.pca_axes)
        self.panels, self.lower, self.whole = arrays.panels, arrays.low_nibbles, arrays.whole
        self.weights, self.unknown = arrays.inv_scale, arrays.low_nibble_norm
        self.squares = arrays.squares
        self.whole_weights, self.whole_squares = arrays.whole_inv_scale, arrays.whole_squares
        self.slots, self.outliers = arrays.slots, arrays.outliers
        self.has_basis = arrays.pca_filter is not None
        self.upper_alone = self.lower is None and not self.has_basis
        self.n_rows, self.n_positions, self.dim = n_rows, self.panels.shape[0], dim
        self.n_coded = self.turn.signs.shape[1]
        self.groups = (self.n_coded + FARANN_CODE_GROUP - 1) // FARANN_CODE_GROUP
        n = self.n_positions
        if (n_rows < 1 or n < 1 or n % FARANN_CODE_PANEL
                or self.weights.shape[0] * FARANN_CODE_PANEL != n
                or self.turn.dim != dim
                or (self.slots is not None and self.slots.shape[0] != n)
                or (self.slots is None and (n < n_rows or self.outliers.shape[0]))):
            raise ValueError("panels, weights, signs and slots must fit together")
        if arrays.mean_direction_scaling is not None and self.squares is not None:
            raise ValueError("there is no stretch beside squares")
        self.take_slots()
        self.take_scanned(arrays)
        self.take_reach(arrays, in_runs)
        self.bounds, self.refined = self.scan_bounds, self.scanned
        if self.has_basis:
            self.take_whole(arrays)
        self.outside_noise = 1.0
        if self.bounds.outside > 0.0 and self.n_coded < dim:
            *_, usual = arrays.whole_bounds if self.has_basis else arrays.bounds
            self.outside_noise = min(1.0, 3.0 * usual / (
                self.bounds.outside * sqrt(<double>(dim - self.n_coded))))

    cdef take_slots(self):
        """Check where rows are, and count up to where there are any."""
        cdef int64_t i, n_outliers = self.outliers.shape[0], n = self.n_positions
        if n_outliers > max(CANDIDATE_ROOM, self.n_rows // FEWEST_CODED):
            raise ValueError(f"there must be at most {CANDIDATE_ROOM} outliers, or one row in "
                             f"{FEWEST_CODED}")
        for i in range(n_outliers):
            if not (self.outliers[i - 1] if i else -1) < self.outliers[i] < self.n_rows:
                raise ValueError("outliers must be ascending slots of the base")
        # Panels that fill up behind the last row aren't counted as rows.
        self.n_filled = self.n_leading = self.n_rows
        if self.slots is None:
            return
        for i in range(n):
            if not -1 <= self.slots[i] < self.n_rows:
                raise ValueError("slots must be those of the base")
        self.n_filled, self.n_leading = n, 0
        while self.n_leading < n and self.slots[self.n_leading] >= 0:
            self.n_leading += 1
        while self.n_filled > 0 and self.slots[self.n_filled - 1] < 0:
            self.n_filled -= 1

    cdef take_scanned(self, arrays):
        """What is scanned: halves of all coordinates, or codes along the basis."""
        cdef int64_t n = self.n_positions, parts = code_pairs(self.groups)
        cdef bint has_lower = self.lower is not None
        # One query alone waits for memory: it reads the upper halves before the lower ones.
        self.halves_first = (has_lower and self.n_coded <= MOST_HALVED
                             and n * self.panels.shape[1] > CACHED_BYTES)
        self.scanned.groups = self.groups
        if self.has_basis:
            self.basis = orthonormal(arrays.pca_filter, self.dim, "basis")
            # The last group is for the length of the rest.
            parts = (self.basis.shape[0] - 1) // FARANN_CODE_GROUP + 2
            self.scanned.groups = parts
            if (self.unknown is not None or has_lower or self.whole is None
                    or self.whole.shape[0] != n
                    or self.whole.shape[1] != self.groups * FARANN_CODE_GROUP
                    or self.whole_weights is None or self.whole_weights.shape[0] != n):
                raise ValueError("whole must hold all coordinates of all positions")
        elif self.unknown is None or self.unknown.shape[0] != self.weights.shape[0]:
            raise ValueError("there must be what is unknown of each panel")
        else:
            largest_of(self.unknown, "what is unknown of a panel")
            self.scanned.unknown = &self.unknown[0]
        if self.panels.shape[1] != parts * FARANN_CODE_GROUP or (
                has_lower and (self.lower.shape[0] != n
                               or self.lower.shape[1] != self.panels.shape[1])):
            raise ValueError("panels must hold the coordinates that are scanned")
        self.scanned.panels, self.scanned.weights = &self.panels[0, 0], &self.weights[0]
        if has_lower:
            self.scanned.lower = &self.lower[0, 0]
        self.scan_bounds = bounds_of(
            arrays.bounds, arrays.inv_scale, arrays.squares, n,
            self.basis.shape[0] if self.has_basis else self.n_coded)
        if self.has_basis != (self.scan_bounds.rest_unit > 0.0):
            raise ValueError("the rest has a unit, if there is one")
        if self.squares is not None:
            self.scanned.squares = &self.squares[0]

    cdef take_reach(self, arrays, bint in_runs):
        """What rows from each panel on may reach, where they lie by that."""
        longest, lead, along = arrays.max_norm, arrays.mean_query_direction, arrays.max_along
        self.reach = self.reach_along = self.lead = None
        if longest is not None:
            if longest.shape != (self.weights.shape[0],):
                raise ValueError("there must be the longest row of each panel")
            largest_of(longest, "lengths")
            self.reach = most_from_each_on(longest, in_runs)
        if lead is not None or along is not None:
            if longest is None or lead is None or along is None or along.shape != longest.shape:
                raise ValueError("a lead needs what the rows of each panel are along it, and else")
            if not np.isfinite(along).all():
                raise ValueError("what rows are along a lead must be finite")
            if lead.shape != (self.dim,):
                raise ValueError("the lead must be a direction of the rows' space")
            self.lead = orthonormal(lead[None], self.dim, "lead")
            self.reach_along = most_from_each_on(along, in_runs)

    cdef take_whole(self, arrays):
        """Beside a basis: codes of all coordinates."""
        self.bounds = bounds_of(arrays.whole_bounds, arrays.whole_inv_scale, arrays.whole_squares,
                                self.n_positions, self.n_coded)
        if self.bounds.rest_unit > 0.0 or (self.squares is None) != (self.whole_squares is None):
            raise ValueError("whole codes have no rest, and squares as panels have")
        self.refined = farann_coded_rows(NULL, NULL, &self.whole[0, 0], &self.whole_weights[0],
                                         NULL, NULL, self.groups)
        if self.whole_squares is not None:
            self.refined.squares = &self.whole_squares[0]
        self.take_hubs()

    cdef take_hubs(self):
        """Lay the whole codes of the first rows out in panels: all queries look at these."""
        cdef int64_t n = min(code_rows(HUB_ROWS), self.n_positions)
        weights = np.asarray(self.whole_weights[:n]).reshape(-1, FARANN_CODE_PANEL)
        self.n_hubs = 0
        # Files of earlier versions have a weight for each row.
        if n == 0 or (weights != weights[:, :1]).any():
            return
        self.hub_weights = np.ascontiguousarray(weights[:, 0])
        self.hub_panels = np.empty((n, self.groups * FARANN_CODE_GROUP), np.uint8)
        pack_codes(self.whole[:n], np.arange(n), False, self.hub_panels, None)
        self.hubs = farann_coded_rows(&self.hub_panels[0, 0], NULL, NULL, &self.hub_weights[0],
                                      NULL, self.refined.squares, self.groups)
        self.n_hubs = n


cdef most_from_each_on(values, bint in_runs):
    """The largest value from each panel on; in runs it is given."""
    if in_runs:
        return values.astype(np.float64)
    return np.maximum.accumulate(values[::-1].astype(np.float64))[::-1].copy()


cdef farann_code_bounds bounds_of(bounds, weights, squares, int64_t n, int64_t dim) except *:
    """Bounds of n coded rows, with what follows from their weights and squares."""
    cdef farann_code_bounds result
    weights = np.asarray(weights)
    smallest, largest = float(weights.min()), float(weights.max())
    if not 0.0 < smallest <= largest < INFINITY:
        raise ValueError("weights must be positive and finite")
    (result.residual, result.length, result.unknown, result.norm, result.rest_unit,
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
            and 0.0 <= result.unknown < INFINITY and 0.0 <= result.norm < INFINITY
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


cdef orthonormal(basis, dim, str name):
    """Directions with zeros behind each; ValueError if they aren't orthonormal."""
    basis = np.asarray(basis, np.float64)
    if (basis.ndim != 2 or not 1 <= basis.shape[0] <= min(dim, LARGEST_BASIS)
            or basis.shape[1] != dim):
        raise ValueError(f"{name} must be up to {LARGEST_BASIS} directions of the rows' space")
    # First that products stay finite; NaN fails this, too.
    if not (np.abs(basis).max() < 2.0
            and np.linalg.norm(basis @ basis.T - np.eye(len(basis))) < 1e-12):
        raise ValueError(f"{name} must be orthonormal")
    whole = np.zeros((len(basis), -(-dim // 8) * 8))
    whole[:, :dim] = basis
    return whole
