"""Files: paths, whole writes, locks, the store of artefacts and its maintenance."""
