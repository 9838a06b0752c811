"""Audio-video retrieval: packs of clips, windows, text, models, metric, protocol, search."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "index": ["build_index", "open_index"],
        "losses": ["masked_margin_softmax"],
        "metrics": ["retrieval_metrics"],
        "packs": ["Pack", "read_pack", "write_pack"],
        "search": ["search"],
        "settings": ["RunJob"],
        "training": ["train_seeds"],
    },
)
