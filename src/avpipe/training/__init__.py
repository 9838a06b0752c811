"""What every training run needs: checkpoints that are safe to read, determinism, and a polite end on a signal."""
