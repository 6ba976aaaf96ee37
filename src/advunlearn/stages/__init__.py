"""The stages of a run that do not fit in `train.py`."""
