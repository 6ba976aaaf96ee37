"""Networks that can be built for any shape of inputs and number of classes, one per file."""
