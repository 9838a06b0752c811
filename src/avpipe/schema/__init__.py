"""The result schema: what evaluation.json and eval.json of both tasks hold, field by field, and how they are read.

docs/result_fields.md is generated from these models.
"""
