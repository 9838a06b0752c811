"""Annotation files of published datasets: one module and one function `parse` for each format."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["activitynet", "crosstask", "msrvtt", "ucf101", "vggsound", "youcook2"],
    submod_attrs={"clips": ["AnnotatedClip", "Annotations"]},
)
