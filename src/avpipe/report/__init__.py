"""Reports of results: one engine for pages, terminals and figures, and one module for what each task has to say."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "gzsl_table": ["write_gzsl_table"],
        "markdown": ["to_markdown"],
        "tasks": ["to_chart", "to_document", "write_report"],
        "terminal": ["print_document"],
    },
)
