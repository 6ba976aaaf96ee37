"""From the user's overrides to a checked experiment."""
