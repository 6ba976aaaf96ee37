"""The place of `optimizers/adamw.py` before version 0.1.0, which frozen sweeps name."""

from advunlearn.optimizers.adamw import AdamW as AdamW
