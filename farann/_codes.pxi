# 8-bit codes of rows: making them, and what a search reads. Part of _core.pyx.

def code_extents(const float[:, ::1] rows, const double[::1] centre, bint unit,
                 const int8_t[:, ::1] signs, str isa, double[::1] extents):
    """Write each row's largest |coordinate| after centring and rotation."""
    cdef double[::1] scratch = np.empty(centre.shape[0])
    cdef double[:, ::1] turns = np.asarray(signs, np.float64)
    cdef const farann_kernels *kernels = kernels_of(isa)
    if rows.shape[0]:
        with nogil:
            farann_code_extents(kernels, &rows[0, 0], rows.shape[0], rows.shape[1], &centre[0],
                                unit, &turns[0, 0], &scratch[0], &extents[0])


def encode_rows(const float[:, ::1] rows, const double[::1] centre, bint unit,
                const int8_t[:, ::1] signs, double scale, str isa, int8_t[:, ::1] codes,
                int32_t[::1] sums, double[::1] squares):
    """Code rows, one after the other; gives the largest |z - s c|^2 and |z|^2."""
    cdef double[::1] scratch = np.empty(centre.shape[0])
    cdef double[:, ::1] turns = np.asarray(signs, np.float64)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef double largest[2]
    largest[0] = largest[1] = 0.0
    if rows.shape[0]:
        with nogil:
            farann_encode_rows(kernels, &rows[0, 0], rows.shape[0], rows.shape[1], &centre[0],
                               unit, &turns[0, 0], scale, &scratch[0], &codes[0, 0], &sums[0],
                               &squares[0], largest)
    return largest[0], largest[1]


def pack_codes(const int8_t[:, ::1] rows, const int64_t[::1] positions, int8_t[:, ::1] panels):
    """Lay codes out as panels: position i holds row positions[i], none where it is negative."""
    cdef int64_t i
    if (panels.shape[0] != code_rows(positions.shape[0]) or panels.shape[1] != rows.shape[1]
            or rows.shape[1] % FARANN_CODE_GROUP):
        raise ValueError("panels must hold the positions")
    for i in range(positions.shape[0]):
        if positions[i] >= rows.shape[0]:
            raise ValueError("positions must be those of rows")
    if panels.shape[0]:
        with nogil:
            farann_pack_codes(&rows[0, 0], &positions[0], positions.shape[0],
                              rows.shape[1] // FARANN_CODE_GROUP, &panels[0, 0])


def code_rows(int64_t n):
    """Rows of whole panels that hold n rows."""
    return (n + FARANN_CODE_PANEL - 1) // FARANN_CODE_PANEL * FARANN_CODE_PANEL


NOT_CODED = <int>FARANN_NOT_CODED


cdef class Codes:
    """8-bit codes of all rows of a snapshot's base, by position; several levels of them.

    Parameters
    ----------
    n_rows, dim : int
        Of the base.
    panels : int8 (n_positions, 4 * n_groups)
        What is scanned, in panels of 16 rows: [group of 4 coordinates][row][4]. All coordinates,
        or with a `basis` those along it and a last group for the length of the rest.
    sums : int32 (n_positions,)
        The sum of a row's codes in `panels`; NOT_CODED where there is no row, or none with codes.
    squares : int32 (n_positions,) or None
        |z|^2 (l2), in units of `square_unit`.
    signs : int8 (3, dim)
        Of the rotation of all coordinates.
    slots : int32 (n_positions,) or None
        The slot of each position, -1 for none; None: they are the same.
    outliers : int64 (m,)
        Slots of the rows that are not coded.
    bounds : tuple of four floats
        Of the codes of all coordinates: rows are about scale * codes; the largest
        |z - scale * codes| and |z|; the unit of squares, or 0.
    basis : float64 (m, dim) or None
        Orthonormal directions.
    rows : int8 (n_positions, 4 * ceil(dim / 4)) or None
        With a basis: codes of all coordinates, row after row.
    basis_bounds : tuple of four floats
        Of the codes along the basis: scale, residual, norm, and the unit of the rest.
    """

    cdef const int8_t[:, ::1] panels, rows
    cdef const int32_t[::1] sums, squares, slots
    cdef double[:, ::1] turns
    cdef double[:, ::1] basis  # padded with zeros to a multiple of 8
    cdef const int64_t[::1] outliers
    cdef farann_coded_rows scanned, refined
    cdef farann_code_bounds bounds, scan_bounds
    cdef bint has_basis
    cdef int64_t n_rows, n_positions, dim, groups

    def __init__(self, int64_t n_rows, int64_t dim, const int8_t[:, ::1] panels,
                 const int32_t[::1] sums, squares, const int8_t[:, ::1] signs, slots,
                 const int64_t[::1] outliers, bounds, basis=None, rows=None, basis_bounds=None):
        cdef int64_t i, n = panels.shape[0]
        self.has_basis = basis is not None
        self.n_rows, self.n_positions, self.dim = n_rows, n, dim
        self.groups = (dim + FARANN_CODE_GROUP - 1) // FARANN_CODE_GROUP
        self.panels, self.sums, self.squares = panels, sums, squares
        self.slots, self.outliers, self.rows = slots, outliers, rows
        if (n_rows < 1 or n < n_rows or n % FARANN_CODE_PANEL or sums.shape[0] != n
                or signs.shape[0] != FARANN_ROTATION_ROUNDS or signs.shape[1] != dim
                or (squares is not None and self.squares.shape[0] != n)
                or (slots is not None and self.slots.shape[0] != n)):
            raise ValueError("panels, sums, squares, signs and slots must fit together")
        if outliers.shape[0] > CANDIDATE_ROOM:
            raise ValueError("there are more outliers than there may be")
        for i in range(outliers.shape[0]):
            if not (outliers[i - 1] if i else -1) < outliers[i] < n_rows:
                raise ValueError("outliers must be ascending slots of the base")
        for i in range(n):
            if self.slots is None:
                if i >= n_rows and sums[i] != FARANN_NOT_CODED:
                    raise ValueError("there must be no codes behind the last row")
            elif not -1 <= self.slots[i] < n_rows or (
                    self.slots[i] < 0 and sums[i] != FARANN_NOT_CODED):
                raise ValueError("slots must be those of the base")
        self.turns = np.array(signs, np.float64)
        self.bounds = bounds_of(bounds[:3], 0.0, bounds[3], dim)
        if (self.squares is not None) != (self.bounds.square_unit > 0.0):
            raise ValueError("squares must have a unit")
        self.scan_bounds = self.bounds
        self.scanned = farann_coded_rows(&panels[0, 0], &sums[0], NULL, self.groups)
        if self.has_basis:
            self.basis = padded_basis(basis, dim)
            self.scan_bounds = bounds_of(basis_bounds[:3], basis_bounds[3], bounds[3],
                                         self.basis.shape[0])
            if not self.scan_bounds.rest_unit > 0.0:
                raise ValueError("the rest must have a unit")
            # The last group is for the length of the rest.
            self.scanned.groups = (self.basis.shape[0] - 1) // FARANN_CODE_GROUP + 2
            if rows is None or self.rows.shape[0] != n or (
                    self.rows.shape[1] != self.groups * FARANN_CODE_GROUP):
                raise ValueError("rows must hold all coordinates of all positions")
            self.refined = farann_coded_rows(&self.rows[0, 0], NULL, NULL, self.groups)
        if panels.shape[1] != self.scanned.groups * FARANN_CODE_GROUP:
            raise ValueError("panels must hold the coordinates that are scanned")
        if self.squares is not None:
            self.scanned.squares = self.refined.squares = &self.squares[0]


cdef farann_code_bounds bounds_of(bounds, double rest_unit, double square_unit,
                                  int64_t dim) except *:
    cdef farann_code_bounds result
    result.scale, result.residual, result.norm = bounds
    result.rest_unit, result.square_unit, result.dim = rest_unit, square_unit, dim
    if not (0.0 < result.scale < INFINITY and 0.0 <= result.residual < INFINITY
            and 0.0 <= result.norm < INFINITY and 0.0 <= rest_unit < INFINITY
            and 0.0 <= square_unit < INFINITY):
        raise ValueError("scale, residual, norm and units must be finite")
    return result


cdef padded_basis(basis, dim):
    """The basis with zeros behind each direction; ValueError if it isn't orthonormal."""
    basis = np.asarray(basis, np.float64)
    if basis.ndim != 2 or not 1 <= basis.shape[0] <= dim or basis.shape[1] != dim:
        raise ValueError("basis must be directions of the rows' space")
    if not np.abs(basis @ basis.T - np.eye(len(basis))).max() < 1e-12:
        raise ValueError("basis must be orthonormal")
    whole = np.zeros((len(basis), -(-dim // 8) * 8))
    whole[:, :dim] = basis
    return whole
