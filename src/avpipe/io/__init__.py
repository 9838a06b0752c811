"""Reading and writing: every file appears whole or not at all, and foreign files are read without running them."""
