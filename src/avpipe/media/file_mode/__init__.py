"""media/file_mode."""
