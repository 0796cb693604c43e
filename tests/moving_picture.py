"""`python tests/moving_picture.py` makes docs/fade.gif, README's moving picture: the branch of a trained network is faded out in a real
browser until a sneaker is something else, BN statistics are measured anew, and the answer is back."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from test_browser import ARGUMENTS, CHROMIUM

from reducenet.course.panels.fade.panel import shipped

OUT = Path(__file__).parents[1] / "docs" / "fade.gif"
WIDTH, TOP = 1520, 2_000_000  # of the picture, in pixels, to be shown at half of that; and what it may weigh, in bytes
VIEW = {"width": 1064, "height": 800}
MOVING, SEEN, READ = 90, 700, 2200  # ms for which a frame is shown: while something moves, where it is seen, where it is read
CLASS = "sneaker"
# The first image of a class that is right with the branch, wrong without it, and right again with statistics measured anew.
TELLING = """(name) => {
    const net = new Net(given.nets[state.expansion].program), label = given.classes.indexOf(name);
    const turned = (scaler) => Object.keys(net.knobs).forEach((knob) => net.turn(knob, scaler));
    const right = (image) => {
        net.show(normalised(held[image]));
        return net.get("logits").indexOf(Math.max(...net.get("logits"))) === label;
    };
    const all = [...held.keys()].filter((image) => given.held.labels[image] === label);
    turned(1);
    const before = all.filter(right);
    turned(0);
    const lost = before.filter((image) => !right(image));
    for (const _ of net.measure(images(given.batch.pixels).map(normalised)));
    return lost.find(right) ?? null;
}"""


def frames(view) -> list[tuple[bytes, int]]:
    """The pictures, and for how long each is shown."""
    taken, below = [], view.locator("#statistics").bounding_box()
    bottom = round(below["y"] + below["height"] + 10)

    def shot() -> bytes:
        return view.screenshot(clip={"x": 0, "y": 0, "width": VIEW["width"], "height": bottom})

    def shoot(ms: int) -> None:
        view.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        taken.append((shot(), ms))

    image = view.evaluate(TELLING, CLASS)
    if image is None:
        sys.exit(f"no {CLASS} is lost and found; show another class")
    view.get_by_role("radio", name=CLASS).check()
    while view.evaluate("state.image") != image:
        view.locator("#another").click()
    view.mouse.move(1, 1)
    view.wait_for_timeout(700)  # the hint has faded
    shoot(READ)
    view.locator("#scaler").focus()
    for _ in range(view.evaluate("last")):
        view.keyboard.press("ArrowLeft")
        shoot(MOVING)
    taken[-1] = (taken[-1][0], READ)
    view.locator("#measure").focus()
    shoot(SEEN)
    view.evaluate(
        "() => { window.kept = requestAnimationFrame; window.requestAnimationFrame = (next) => setTimeout(() => kept(next), 250); }"
    )
    view.keyboard.press("Enter")
    while view.evaluate("document.body.dataset.statistics") != "measured":
        taken.append((shot(), MOVING // 3))
    view.evaluate("() => { window.requestAnimationFrame = kept; }")
    view.wait_for_timeout(600)
    shoot(int(1.5 * READ))
    return taken


def moving(pictures: list[tuple[bytes, int]]) -> bytes:
    """One GIF that plays for ever, all frames with the colours of one."""
    images = [Image.open(io.BytesIO(png)).convert("RGB") for png, _ in pictures]
    size = (WIDTH, round(images[0].height * WIDTH / images[0].width))
    images = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
    some = Image.new("RGB", (size[0], 3 * size[1]))
    for place, image in enumerate((images[0], images[len(images) // 2], images[-1])):
        some.paste(image, (0, place * size[1]))
    palette = some.quantize(128, method=Image.Quantize.MEDIANCUT)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    out = io.BytesIO()
    flat[0].save(out, "GIF", save_all=True, append_images=flat[1:], duration=[ms for _, ms in pictures], loop=0, optimize=True)
    return out.getvalue()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "panel.html"
        file.write_text(shipped().html, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        view = browser.new_page(viewport=VIEW, device_scale_factor=WIDTH / VIEW["width"], reduced_motion="reduce", color_scheme="light")
        view.goto(file.as_uri())
        taken = frames(view)
        browser.close()
    gif = moving(taken)
    if len(gif) > TOP:
        sys.exit(f"{len(gif) / 1e6:.1f} MB are too much for a README")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(gif)
    print(f"{OUT} {len(taken)} frames, {len(gif) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
