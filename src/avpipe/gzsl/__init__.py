"""Generalised zero-shot learning: splits, the published folder tree, AVCA and its evaluation."""
