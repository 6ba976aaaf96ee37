"""Models trained on random subsets, which attacks compare with."""
