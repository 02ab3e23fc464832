"""What users ask for and what they are told: metrics, options of an index, checks, errors.

The bottom of the package: everything may import it, and it imports nothing but types and the core.
"""
