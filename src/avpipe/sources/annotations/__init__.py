"""Annotation files of published datasets: one module and one function `parse` for each format."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "activitynet",
        "crosstask",
        "howto100m",
        "msrvtt",
        "ucf101",
        "vggsound",
        "youcook2",
        "youcook_japanese",
    ],
    submod_attrs={"clips": ["AnnotatedClip", "Annotations"], "reading": ["FORMATS", "read_annotations"]},
)
