"""`python -m reducenet.course.live PANEL OUT.html` writes a live panel, with the shipped networks, as one file."""

import sys
from importlib import import_module
from pathlib import Path

from reducenet.course.live.shown import PANELS

if __name__ == "__main__":
    names = sorted(folder.parent.name for folder in PANELS.glob("*/panel.py"))
    if len(sys.argv) != 3 or sys.argv[1] not in names:
        sys.exit(f"usage: python -m reducenet.course.live PANEL OUT.html; panels: {', '.join(names)}")
    out = Path(sys.argv[2])
    try:
        out.write_text(import_module(f"reducenet.course.panels.{sys.argv[1]}.panel").shipped().html, encoding="utf-8")
    except OSError as error:
        sys.exit(f"{out}: {error.strerror}")
    print(out, f"{out.stat().st_size / 1e6:.2f} MB")
