"""Page 02, "Which ReLUs can go?": six switches, 64 masks, each of them tried; a merged pair, and who would have chosen which mask."""
