"""Optimizers: how long and how a network is fitted."""
