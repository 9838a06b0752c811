"""Results: eval.json, a table and a figure, each with what it rests on."""
