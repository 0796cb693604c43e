"""Page 06, "The verdicts": a claim of the article, its interval with every seed and every control, and how many seeds would decide it."""
