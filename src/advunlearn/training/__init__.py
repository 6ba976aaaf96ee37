"""Training of one network or of many at once: the step, the loop and checkpoints."""
