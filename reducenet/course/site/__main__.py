"""`python -m reducenet.course.site OUT` writes the site into the folder OUT; `--smoke` runs its pages on few images, for a look."""

import argparse
import sys
from pathlib import Path

from reducenet.course.site.build import build
from reducenet.course.site.executed import PageError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reducenet.course.site", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write; what an earlier build left there is replaced")
    parser.add_argument("--smoke", action="store_true", help="pages in their smoke profile, on synthetic images")
    options = parser.parse_args()
    try:
        build(options.out, smoke=options.smoke)
    except (PageError, OSError) as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
