"""Diverse selections beside other libraries."""
