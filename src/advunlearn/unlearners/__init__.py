"""The leader of the game and the baselines, one per file."""
