"""How fast this project is, against what you would use without it: `make bench`. Never a test, since another machine has other times.

harness.py   two sides in turn, several rounds, one ratio        crew.py     processes that do the same thing at the same time
usual.py     the usual recipe: PIL, DataLoader, an eager loop    figures.py  which figures there are
training.py  replicates.py  teaching.py  convs.py  deployed.py  start.py  study.py  gpu.py      the figures, a file a subject
results.py   results.json, what was measured last                table.py    the table that is made of it: docs/benchmarks.md
"""
