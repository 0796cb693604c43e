"""`python tests/screenshots.py SITE FOLDER [NAME ...]`: pictures of every page and panel of a built site, or of those named, for a phone
and a desk, light and dark. Each is cut at a height that a person would look at."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from test_browser import ARGUMENTS, CHROMIUM

SIZES = {"phone": (390, 844), "desk": (1280, 800)}
HIGHEST = 12_000  # of a picture, in pixels


def shoot(site: Path, folder: Path, names: list[str]) -> list[Path]:
    """One PNG for each page, size and scheme."""
    pages = [page for page in sorted([*site.glob("*.html"), *site.glob("panels/*.html")]) if not names or page.stem in names]
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                view = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
                for page in pages:
                    view.goto(page.as_uri())
                    view.wait_for_timeout(1500)  # panels have said how high they are, and come to rest
                    high = min(view.evaluate("document.documentElement.scrollHeight"), HIGHEST)
                    made.append(folder / f"{page.parent.name if page.parent != site else 'page'}-{page.stem}-{size}-{scheme}.png")
                    view.screenshot(path=made[-1], full_page=True, clip={"x": 0, "y": 0, "width": width, "height": high})
                    print(made[-1], f"{width}×{high}")
                view.close()
        browser.close()
    return made


if __name__ == "__main__":
    if len(sys.argv) < 3 or not (Path(sys.argv[1]) / "index.html").is_file():
        sys.exit(__doc__)
    shoot(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3:])
