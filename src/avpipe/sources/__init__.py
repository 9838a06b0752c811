"""Where clips come from: folders, tables, published features."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "listing": ["list_source", "split_into_shards"],
        "local": ["SourceClip", "listing_digest"],
        "settings": ["Source", "validate_source"],
    },
)
