"""The stages of a run that take more than a line of `train.py`."""
