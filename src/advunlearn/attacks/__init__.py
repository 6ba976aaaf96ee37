"""Membership-inference attacks on a finished model, one per file, over numerical kernels without torch."""
