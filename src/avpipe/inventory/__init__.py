"""Which clips a dataset has, what is in their files, and what became of each."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "accounting": ["account", "check_failure_rate"],
        "probing": ["ProbedClip", "probe_shard", "read_probed"],
        "shards": ["index_shard", "read_inventory"],
        "status": ["ClipStatus", "close_shard", "read_statuses"],
    },
)
