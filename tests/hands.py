"""Every control of a panel taken in hand, by keyboard, mouse or finger: which of them change nothing, or do not get where they should.

`page` is the page of the browser, `frame` where the panel is: the page itself, or a frame in it.
"""

from playwright.sync_api import TimeoutError as Late

PATIENCE = 2_500  # ms; the machine may be busy
# What is seen, in one number: text, drawings, canvases; not the controls themselves, which move by themselves.
SEEN = """() => {
    const main = document.querySelector("main").cloneNode(true);
    main.querySelectorAll("input, option").forEach((node) => node.remove());
    const text = main.innerHTML + [...document.querySelectorAll("main canvas")].map((canvas) => canvas.toDataURL()).join();
    let hash = 0;
    for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
    return hash;
}"""
ENDS = """(node) => ["min", "max"].map((end, i) => {
    const twin = node.cloneNode();
    twin.value = node[end] || 100 * i;
    return twin.value;
})"""


def idle_hands(page, frame, by: str) -> list[str]:
    """One line for each control that changed nothing: sliders to both ends, radios and boxes set, buttons pressed."""
    return [*_sliders(page, frame, by), *_choices(page, frame, by), *_selects(frame), *_buttons(page, frame, by)]


def visible(frame, selector: str) -> list:
    found = frame.locator(selector)
    return [one for one in (found.nth(i) for i in range(found.count())) if one.is_visible()]


def name_of(control) -> str:
    return control.evaluate("(node) => node.ariaLabel || node.textContent.trim() || node.id || node.name")


def changed(frame, act, patience: int = PATIENCE) -> bool:
    """Whether what is seen is another once `act` is done, and it has had its time."""
    frame.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # what was done is drawn
    before = frame.evaluate(SEEN)
    act()
    try:
        frame.wait_for_function(f"(before) => ({SEEN})() !== before", arg=before, timeout=patience)
    except Late:
        return False
    return True


def _sliders(page, frame, by: str) -> list[str]:
    wrong = []
    for slider in visible(frame, "input[type=range]"):
        slider.scroll_into_view_if_needed()
        ends, there = slider.evaluate(ENDS), []
        slide(page, slider, by, 0)
        there.append(slider.input_value())
        moved = changed(frame, lambda slider=slider: slide(page, slider, by, 1))
        there.append(slider.input_value())
        if there != ends or not moved:
            wrong.append(f"slider {name_of(slider)!r} by {by}: went to {there} of {ends}{'' if moved else ', nothing changed'}")
    return wrong


def slide(page, slider, by: str, end: int) -> None:
    """To an end: with a key, or dragged there from the other one."""
    if by == "keyboard":
        return slider.press(("Home", "End")[end])
    slider.evaluate("(node) => node.scrollIntoView({ block: 'center' })")  # from under the bars of a host
    box = slider.bounding_box()
    x, y = (box["x"] + 14, box["x"] + box["width"] - 14), box["y"] + box["height"] / 2
    places = [(x[1 - end] + (x[end] - x[1 - end]) * i / 8 + (0, 12 * (2 * end - 1))[i == 8], y) for i in range(9)]
    if by == "mouse":
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places:
            page.mouse.move(*place)
        return page.mouse.up()
    touch = page.context.new_cdp_session(page)
    for kind, place in [("touchStart", places[0]), *(("touchMove", place) for place in places), ("touchEnd", None)]:
        points = [dict(x=place[0], y=place[1])] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    return touch.detach()


def _choices(page, frame, by: str) -> list[str]:
    """A choice may say the same as its neighbour where another stands as it does: then the others move on, and it is chosen again."""
    groups = {}
    for radio in visible(frame, "input[type=radio]:not(:disabled)"):
        groups.setdefault(radio.get_attribute("name"), []).append(radio)
    groups = [group for group in groups.values() if len(group) > 1]
    idle = [(group, radio) for group in groups for radio in _round(group) if not _chosen(frame, radio, by)]
    for other in groups if idle else []:
        for setting in other:
            press(setting, "keyboard", key=" ")
            idle = [(group, radio) for group, radio in idle if group is other or not _again(frame, group, radio, by)]
    wrong = [f"choice {name_of(radio)!r} by {by}: nothing changed" for _, radio in idle]
    for box in visible(frame, "input[type=checkbox]"):
        moved = all(changed(frame, lambda box=box: press(box, by, key=" ")) for _ in range(2))
        wrong += [] if moved else [f"box {name_of(box)!r} by {by}: nothing changed"]
    return wrong


def _round(group: list) -> list:
    """All of them, from the one behind that which is chosen; of three or more the middle one last: it leaves the others most to do."""
    start = next((i for i, radio in enumerate(group) if radio.is_checked()), -1)
    order = [*group[start + 1 :], *group[: start + 1]]
    return order if len(order) < 3 else [radio for radio in order if radio != group[len(group) // 2]] + [group[len(group) // 2]]


def _chosen(frame, radio, by: str, patience: int = PATIENCE) -> bool:
    return changed(frame, lambda: press(radio, by, key=" "), patience) and radio.is_checked()


def _again(frame, group: list, radio, by: str) -> bool:
    """From another of its group to this one."""
    press(next(one for one in group if one != radio), "keyboard", key=" ")
    return _chosen(frame, radio, by, PATIENCE // 4)


def _selects(frame) -> list[str]:
    wrong = []
    for select in visible(frame, "select"):
        values = select.evaluate("(node) => [...node.options].map((option) => option.value)")
        for value in [*values[1:], values[0]]:
            moved = changed(frame, lambda select=select, value=value: select.select_option(value))
            wrong += [] if moved else [f"select {name_of(select)!r}: nothing changed at {value}"]
    return wrong


def _buttons(page, frame, by: str) -> list[str]:
    """A button may have nothing to do where the panel is as it would make it: then a slider is moved, and it is pressed again."""
    wrong = []
    for button in visible(frame, "button"):
        if button.get_attribute("aria-disabled") == "true" or button.is_disabled():
            continue
        if changed(frame, lambda button=button: press(button, by)):
            continue
        for slider in visible(frame, "input[type=range]"):
            slide(page, slider, "keyboard", slider.input_value() != slider.evaluate(ENDS)[1])
        if not changed(frame, lambda button=button: press(button, by)):
            wrong.append(f"button {name_of(button)!r} by {by}: nothing changed")
    return wrong


def press(control, by: str, key: str = "Enter") -> None:
    control.scroll_into_view_if_needed()
    if by == "keyboard":
        control.press(key)
    elif by == "finger":
        control.tap(force=True)
    else:
        control.click(force=True)
