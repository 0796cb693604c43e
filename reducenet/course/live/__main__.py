"""`python -m reducenet.course.live OUT.html` writes the live panel of page 03 as one file."""

import sys
from pathlib import Path

from reducenet.course.live.shown import page

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m reducenet.course.live OUT.html")
    out = Path(sys.argv[1])
    out.write_text(page(), encoding="utf-8")
    print(out, f"{out.stat().st_size / 1e6:.2f} MB")
