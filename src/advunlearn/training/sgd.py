"""The place of `optimizers/sgd.py` before version 0.1.0, which frozen sweeps name."""

from advunlearn.optimizers.sgd import SGD as SGD
