"""Results: eval.json, tables, notices and figures, each with what it rests on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "gzsl_table": ["write_gzsl_table"],
        "results": ["read_record", "write_results"],
        "retrieval_results": ["write_retrieval_results"],
        "retrieval_terminal": ["print_retrieval"],
        "terminal": ["print_result"],
    },
)
