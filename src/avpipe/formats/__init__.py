"""Files of others, read within bounds and without running anything that is in them: one reader for each format."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "npy": ["find_rows", "read_npy"],
        "pickle_writing": ["write_pickle"],
        "pickles": ["read_pickle"],
        "weights": ["load_published", "load_weights"],
        "word_vectors": ["select_vectors", "vector_length"],
    },
)
