"""Datasets, one per file, and the examples that are cut from them."""
