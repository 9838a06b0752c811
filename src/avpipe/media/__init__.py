"""Media files: what is in them, their pictures and sound as streams, and whether they are whole."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audio": ["audio_blocks", "read_audio"],
        "clip": ["Clip"],
        "decode": ["decode_video"],
        "ffmpeg": ["ffmpeg_version", "run_ffmpeg"],
        "probe": ["MediaInfo", "probe_media"],
    },
)
