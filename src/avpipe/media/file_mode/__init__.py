"""File mode: clips cut out of their files and converted to a frame rate before anything reads them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "convert": ["convert_to_rate"],
        "trim": ["trim_clip"],
    },
)
