"""The article's claims: a register written before the runs, joined with published rows, and the pages that say what came of it."""
