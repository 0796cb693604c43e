"""The live panels, a folder each: what it is handed (material), how it looks and moves, and the picture beside it."""
