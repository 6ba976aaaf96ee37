"""Batched convex solvers of the auditors, differentiable by implicit differentiation."""
