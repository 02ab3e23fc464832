# Cells of a partitioned index: where their rows are, and what is expected of them. Part of _core.pyx.

cdef class Cells:
    """Which positions of codes belong to which cell, and each cell as a coded row.

    Parameters
    ----------
    starts : int64 (n_cells + 1,)
        Cell c has the positions starts[c] .. starts[c + 1], whole panels; what comes before
        starts[0] belongs to no cell and is always searched.
    panels : int8 (n, 4 * (ceil(dim / 4) + 1))
        The cells' means, coded and laid out as rows are, turned by the same rotation; the last
        group is the standard deviation of a cell's rows along one direction.
    sums : int32 (n,)
        The sum of a cell's codes; NOT_CODED behind the last cell.
    squares : int32 (n,) or None
        The mean of |z|^2 over a cell's rows (l2).
    bounds : tuple of three floats
        The scale of the codes, the unit of the deviations, and the unit of squares, or 0.
    """

    cdef const int64_t[::1] starts
    cdef const int8_t[:, ::1] panels
    cdef const int32_t[::1] sums, squares
    cdef farann_coded_rows coded
    cdef farann_code_bounds bounds
    cdef int64_t n_cells, n_padded

    def __init__(self, int64_t dim, int64_t n_positions, const int64_t[::1] starts,
                 const int8_t[:, ::1] panels, const int32_t[::1] sums, squares, bounds):
        cdef int64_t i, n = panels.shape[0], groups = (dim - 1) // FARANN_CODE_GROUP + 2
        self.n_cells, self.n_padded = starts.shape[0] - 1, n
        self.starts, self.panels, self.sums, self.squares = starts, panels, sums, squares
        if (self.n_cells < 1 or n != code_rows(self.n_cells) or sums.shape[0] != n
                or panels.shape[1] != groups * FARANN_CODE_GROUP
                or (squares is not None and self.squares.shape[0] != n)):
            raise ValueError("starts, panels, sums and squares must fit together")
        for i in range(self.n_cells + 1):
            if not (starts[i - 1] if i else 0) <= starts[i] <= n_positions or (
                    starts[i] % FARANN_CODE_PANEL):
                raise ValueError("starts must be ascending positions of whole panels")
        for i in range(self.n_cells, n):
            if sums[i] != FARANN_NOT_CODED:
                raise ValueError("there must be no codes behind the last cell")
        self.bounds = bounds_of((bounds[0], 0.0, 0.0), bounds[1], bounds[2], dim)
        if not self.bounds.rest_unit > 0.0:
            raise ValueError("deviations must have a unit")
        if (self.squares is not None) != (self.bounds.square_unit > 0.0):
            raise ValueError("squares must have a unit")
        self.coded = farann_coded_rows(&panels[0, 0], &sums[0], NULL, groups)
        if self.squares is not None:
            self.coded.squares = &self.squares[0]
