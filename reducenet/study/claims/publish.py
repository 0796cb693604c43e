from pathlib import Path


def publish(project: Path) -> None: ...
