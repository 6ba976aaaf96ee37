"""Networks that can be built for any image shape and number of classes, one per file."""
