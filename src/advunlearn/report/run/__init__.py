"""The page, table and pictures of one run."""
