"""What every trainer shares: the loop, exact resume, seed folders, determinism, precision, several processes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["load", "save"],
        "distributed": ["ProcessGroup"],
        "loop": ["LoopSettings", "Trainer", "train"],
        "precision": ["arithmetic"],
        "processes": ["run_together"],
        "runtime": ["Interrupt", "deterministic"],
    },
)
