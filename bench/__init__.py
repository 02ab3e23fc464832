"""The benchmark suite of farann: ``python -m bench`` from the root of the checkout."""
