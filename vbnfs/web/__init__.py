"""The page of `vbnfs web`: what the dataset has, what the cache has, what the machine does."""
