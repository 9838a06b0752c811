"""The configuration: pydantic models that are the single source of every key, its type, default and meaning."""
