"""Adapters to recommenders; nothing is imported before it is asked for."""
