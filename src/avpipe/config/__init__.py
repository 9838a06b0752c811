"""The configuration, composed of the rooms' settings: every key, its type, default and meaning has one source."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "catalogue": ["read_catalogue"],
        "load": ["load_config"],
        "models": ["Config", "Dataset"],
    },
)
