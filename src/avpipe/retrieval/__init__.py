"""Audio-video retrieval with AVLnet: packs of clips, models, losses, training, evaluation, search."""
