"""The record of one run: its manifest, its state, and the reuse of finished runs."""
