"""Weights of networks: published files loaded strictly, and seeded random ones that stand in for them."""

from avpipe.formats.weights import WeightsRecord, build_empty, load_published, load_weights, random_state_dict

__all__ = ["WeightsRecord", "build_empty", "load_published", "load_weights", "random_state_dict"]
