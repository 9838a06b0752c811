"""Generalised zero-shot learning: splits, the published folder tree, class vectors, methods, metric, protocol."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["beta_grid", "calibrated_stacking", "exact_calibration"],
        "released": ["evaluate_released"],
        "splits": ["Split", "read_split"],
        "testing": ["evaluate_stage2"],
        "training": ["train_seeds"],
        "tree": ["write_features"],
        "tree_reading": ["read_features", "read_tree"],
    },
)
