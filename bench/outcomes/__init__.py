"""Whom farann's answers help, and how much: each use on real data, by its user's measure."""
