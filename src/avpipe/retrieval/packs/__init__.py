"""Packs: all that AVLnet reads of a set of clips, in memory and in one safe file."""

from avpipe.retrieval.packs.files import pack_writer, read_pack, write_pack
from avpipe.retrieval.packs.pack import FRAMES_PER_SECOND, ClipSource, Pack, PackInfo

__all__ = ["FRAMES_PER_SECOND", "ClipSource", "Pack", "PackInfo", "pack_writer", "read_pack", "write_pack"]
