"""Files of others, read within bounds and without running anything that is in them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pickles": ["read_pickle", "read_pickled_npy"],
        "tensor_pickle_writing": ["write_tensor_pickle"],
        "tensor_pickles": ["read_tensor_pickle"],
        "weights": ["load_published", "load_weights"],
        "word_files": ["select_vectors", "vector_length"],
    },
)
