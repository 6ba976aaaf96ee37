"""What a run is tracked with: the trackers of other packages, and files of its own folder."""
