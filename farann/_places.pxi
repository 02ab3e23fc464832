# Where rows lie in the order of codes, to a part of an octave. Part of _core.pyx.

cdef enum:
    PLACES_AN_OCTAVE = 8

# By place: the root of the number of the panel, from 1 on.
cdef float ROOTS[256]
cdef int at
for at in range(256):
    ROOTS[at] = 2.0 ** (0.5 * at / PLACES_AN_OCTAVE)


cdef uint8_t place_of(int64_t position) noexcept nogil:
    """The octave that a position is in, log2(p + 1) of its panel p, in parts."""
    return <uint8_t>(PLACES_AN_OCTAVE * log2(position // FARANN_CODE_PANEL + 1.0) + 0.5)


cdef places_of(Codes codes):
    """Of each row of the base its place; rows without codes are always scored, and have 0.

    Made once, as few searches look at them.
    """
    cdef uint8_t[::1] places
    cdef int64_t position, panel, slot
    cdef uint8_t place
    if codes.places is None:
        made = np.zeros(codes.n_rows, np.uint8)
        places = made
        for panel in range(codes.n_filled // FARANN_CODE_PANEL + 1):
            place = place_of(panel * FARANN_CODE_PANEL)
            for position in range(panel * FARANN_CODE_PANEL,
                                  min((panel + 1) * FARANN_CODE_PANEL, codes.n_filled)):
                slot = position if codes.slots is None else codes.slots[position]
                if slot >= 0:
                    places[slot] = place
        codes.places = made
    return codes.places
