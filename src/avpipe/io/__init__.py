"""Files of avpipe's own: every file appears whole or not at all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "atomic": ["atomic_directory", "atomic_path", "write_json", "write_text"],
        "space": ["require_space"],
        "tables": ["read_rows", "write_rows"],
    },
)
