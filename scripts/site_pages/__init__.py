"""The pages of the site that are made when it is built, and the links of those that are not."""
