"""report.html, the page that a person opens: one file that needs no network.

Read `sources` (what the page is made of beside the record), then `zero_shot` and `retrieval` (what stands on it),
`parts` (what a page consists of), `drawing` (pictures) and `markup` (the HTML).
"""
