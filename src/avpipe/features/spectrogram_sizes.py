"""Lengths of AVLnet's spectrogram, for whoever counts its frames and computes none; imports nothing."""

RATE_HZ = 16_000
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
PADDING_SAMPLES = FRAME_SAMPLES // 2
MEL_BANDS = 40
