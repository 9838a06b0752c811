"""Which clips a dataset has, what is in their files, and what became of each."""
