"""What every trainer shares: checkpoints, determinism, precision, interrupts, several processes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["load", "save"],
        "distributed": ["Team"],
        "precision": ["arithmetic", "mixed"],
        "processes": ["run_together"],
        "runtime": ["Interrupt", "deterministic"],
    },
)
