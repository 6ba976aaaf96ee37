"""Many runs: frozen, submitted to Slurm, watched."""
