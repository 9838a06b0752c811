"""Where clips come from: a folder per class, a table, or the embedded dataset."""
