"""The followers of the game: differentiable membership attacks, one per file."""
