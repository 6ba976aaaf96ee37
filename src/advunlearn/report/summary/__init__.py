"""The page, tables and pictures of many runs."""
