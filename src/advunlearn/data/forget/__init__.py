"""Forget scenarios: which training examples are to be removed."""
