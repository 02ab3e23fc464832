"""What each mechanism of the search pays: ``python -m bench ablate``."""
