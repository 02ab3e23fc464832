"""Files: the container of named arrays, an index as its sections, vector files of other formats.

Nothing that is read is trusted. It imports `store` and what is below; `index`, `vectors`, the
command line and adapters may import it.
"""
