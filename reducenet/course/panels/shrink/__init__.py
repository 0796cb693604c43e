"""Page 00, "Ten seconds": a trained network loses its branches before the reader's eyes, step by step, and answers all the while."""
