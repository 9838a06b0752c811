"""Media files: probing, decoding to frames and samples, trimming, and conversion to a fixed frame rate."""
