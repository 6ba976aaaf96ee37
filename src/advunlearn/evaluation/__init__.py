"""Metrics with intervals, and the comparison of the models."""
