"""Diverse selections beside other libraries, and what truncated pools cost marginal relevance."""
