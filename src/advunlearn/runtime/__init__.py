"""How a process computes: settings, random streams, signals, threads, workers, progress."""
