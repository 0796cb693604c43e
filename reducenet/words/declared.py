"""Declaring words, and reading them from source: the decorated signature is the declaration, and no torch is imported to read it.

    @move(exact=True)
    def fold(net: nn.Module) -> nn.Module: ...

    @loss("kd")
    def kd(teacher: Arm, kd_weight: Share = 0.9, temperature: Above0 = 4.0): ...

At run time a decorated function checks what it is handed, in the same words as a study file. A word of one's own is a file like these:
`add("my_words.py")`, or `--words my_words.py` on the command line.
"""

import ast
import functools
import importlib
import importlib.util
import inspect
import linecache
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from reducenet.words import types
from reducenet.words.word import REQUIRED, MoveError, Parameter, Word, unknown

SENTENCE = ("build", "choice", "fit", "move", "search", "tune")  # kinds of words that stand in a sentence
KINDS = (*SENTENCE, "loss", "block", "dataset")
# What a run hands over, and no sentence says.
SUPPLIED = ("self", "paths", "net", "data", "played", "seed", "nth_fit", "device", "progress", "hooks", "num_classes", "in_channels",
            "in_planes", "planes", "stride", "example")  # fmt: skip
PACKAGE = Path(__file__).parents[1]
MARK = "from reducenet.words import"  # a file without it declares nothing


def _declaring(kind: str) -> Callable:
    def decorator(*named, **options):
        """`@move`, `@move(exact=True)`, `@loss("kd")`."""

        def declare(made):
            made.word = (kind, named[0] if named and isinstance(named[0], str) else made.__name__)
            declared = made if inspect.isclass(made) or kind == "dataset" else _checked(made)
            frame = sys._getframe(1)  # a class in a cell does not know its file
            while frame.f_code.co_filename == __file__:
                frame = frame.f_back
            file = frame.f_code.co_filename
            if not Path(file).is_relative_to(PACKAGE):
                _here[_namespace(kind), made.word[1]] = declared, file
            return declared

        return declare(named[0]) if named and callable(named[0]) else declare

    decorator.__name__ = decorator.__qualname__ = kind
    return decorator


build, choice, fit, move, search, tune, loss, block, dataset = map(_declaring, KINDS)


def _checked(function: Callable) -> Callable:
    """The function, which first looks at its parameters as a study file would."""
    signature = inspect.signature(function)
    loose = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        kind, name = function.word
        word = find(kind, name)
        try:
            said = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{function.__name__}: {error}") from None
        said |= said.pop(loose, {}) if loose else {}
        if word.choice and callable(chosen := said.get(word.choice.name)):  # a function, or a class, in place of its name
            known = inspect.isclass(chosen) and chosen.__dict__.get("word")
            said = {key: value for key, value in said.items() if known or key in [p.name for p in word.parameters]}
            said |= {word.choice.name: known[1] if known else word.choice.default}
        try:
            word.whole({key: value for key, value in said.items() if key not in SUPPLIED}, others(word), called=True)
        except MoveError as error:
            raise MoveError(f"{name}: {error}") from None
        return function(*args, **kwargs)

    return checked


# ---- reading

_added: dict[str, None] = {}  # files of words from outside, in order
_here: dict[tuple[str, str], tuple] = {}  # words declared as this process runs, in a notebook's cell or a script: the function and its file


def add(file: str | Path) -> None:
    """The words in this file are words from now on. `MoveError` where it cannot be read, or a word is there already."""
    path = Path(file).absolute()
    if str(path) in _added:
        return
    try:
        found = read(path)
    except OSError as error:
        raise MoveError(f"{file}: no such file of words ({error.strerror})") from None
    except SyntaxError as error:
        raise MoveError(f"{file}: cannot be read as Python: {error.msg} (line {error.lineno})") from None
    if not found:
        raise MoveError(f"{file}: no word is declared there; decorators: {', '.join(KINDS)}")
    taken = [w.name for w in found if (_namespace(w.kind), w.name) in _vocabulary()]
    if taken:
        raise MoveError(f"{file}: {taken[0]!r} is a word already")
    _added[str(path)] = None
    _vocabulary.cache_clear()


def added() -> list[str]:
    """The files of words from outside."""
    return list(_added)


@functools.cache
def read(path: Path) -> tuple[Word, ...]:
    """The words that a file declares."""
    text = path.read_text(encoding="utf-8")
    home = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) if path.is_relative_to(PACKAGE) else str(path)
    return _read(text, home) if MARK in text else ()


def _read(text: str, home: str, scope: dict = MappingProxyType({})) -> tuple[Word, ...]:
    """The words of a source; `scope` are the names that other cells have given."""
    tree = ast.parse(text)
    names = {name: getattr(types, name) for name in types.__all__} | scope
    for node in tree.body:  # constants that a signature may name
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                names[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "reducenet.words"]
    kinds = {alias.asname or alias.name: alias.name for node in imports for alias in node.names if alias.name in KINDS}
    kinds |= {name: kind for kind in KINDS for name, made in scope.items() if made is globals()[kind]}
    return tuple(
        _word(node, kinds[called], decorator, names, functions, home)
        for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for decorator in node.decorator_list if (called := _called(decorator)) in kinds
    )  # fmt: skip


def _called(decorator: ast.expr) -> str | None:
    name = decorator.func if isinstance(decorator, ast.Call) else decorator
    return name.id if isinstance(name, ast.Name) else None


def _word(node, kind: str, decorator: ast.expr, names: dict, functions: dict, home: str) -> Word:
    def value(expression: ast.expr):
        try:
            return eval(compile(ast.Expression(expression), home, "eval"), dict(names))  # of this package, or of a file handed over as code
        except Exception as error:
            raise MoveError(f"{home}: {node.name}: {ast.unparse(expression)!r} cannot be read without running the file: {error}") from None

    call = decorator if isinstance(decorator, ast.Call) else None
    name = value(call.args[0]) if call and call.args else node.name
    given = {keyword.arg: keyword.value for keyword in (call.keywords if call else ())}
    refuse = given.pop("refuse", None)
    if refuse is not None:
        ruled = dict(names)
        rule = functions.get(getattr(refuse, "id", None))
        if rule is None and getattr(refuse, "id", None) not in names:
            raise MoveError(f"{home}: {node.name}: refuse must be a function of the same file, not {ast.unparse(refuse)!r}")
        if rule is not None:
            exec(compile(ast.Module([rule], []), home, "exec"), ruled)
        refuse = ruled[refuse.id]
    signature = node if isinstance(node, ast.FunctionDef) else next(
        (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)  # fmt: skip
    parameters = []
    if signature is not None:
        plain = [*signature.args.posonlyargs, *signature.args.args]
        defaults = [None] * (len(plain) - len(signature.args.defaults)) + signature.args.defaults
        for argument, default in [
            *zip(plain, defaults, strict=True),
            *zip(signature.args.kwonlyargs, signature.args.kw_defaults, strict=True),
        ]:
            if argument.arg in SUPPLIED:
                continue
            if argument.annotation is None:
                raise MoveError(f"{home}: {node.name}: the parameter {argument.arg!r} has no type; types: {', '.join(types.__all__)}")
            parameters.append(Parameter(argument.arg, value(argument.annotation), REQUIRED if default is None else value(default)))
    says = inspect.cleandoc(ast.get_docstring(node) or "")
    return Word(kind, name, home, node.name, tuple(parameters), says, {key: value(v) for key, v in given.items()}, refuse)


# ---- finding


def _namespace(kind: str) -> str:
    return "sentence" if kind in SENTENCE else kind


@functools.cache
def _vocabulary() -> dict[tuple[str, str], Word]:
    """(namespace, name) -> word, in the order of the rooms."""
    rooms = ("nets", "learn", "moves", "deploy", "methods", "data")
    files = [file for room in rooms for file in sorted((PACKAGE / room).rglob("*.py"))]
    return {(_namespace(w.kind), w.name): w for file in [*files, *map(Path, _added)] for w in read(file)}


def _declared_here() -> dict[tuple[str, str], Word]:
    """The words of cells and scripts, as their source stands now."""
    scopes = {file: getattr(inspect.unwrap(made), "__globals__", None) or vars(sys.modules[made.__module__])
              for made, file in _here.values()}  # fmt: skip
    read_now = [word for file, scope in scopes.items() for word in _read("".join(linecache.getlines(file)), file, scope)]
    return {key: word for word in read_now if _here.get(key := (_namespace(word.kind), word.name), ("", ""))[1] == word.home}


def words(*kinds: str) -> dict[str, Word]:
    """The words of these kinds by name, in the order of `kinds`; without kinds, those that stand in a sentence."""
    every = {**_declared_here(), **_vocabulary()}
    return {w.name: w for kind in kinds or SENTENCE for w in every.values() if w.kind == kind}


def find(kind: str, name: str) -> Word:
    """The word of this name and kind ("sentence" for all kinds that stand in one); `MoveError` that lists the words where there is none."""
    space = kind if kind == "sentence" else _namespace(kind)
    found = _vocabulary().get((space, name)) or _declared_here().get((space, name))
    if found is None and kind == "dataset":  # a place, and the word says what such places look like
        found = next((word for word in words(kind).values() if "*" in word.name and fnmatchcase(name, word.name)), None)
    if found is None:
        called = {"sentence": "move", "dataset": "data set"}.get(space, space)
        raise MoveError(unknown(called, name, words() if space == "sentence" else words(kind)))
    return found


def others(word: Word) -> dict[str, Word]:
    """The words of the kind that one of its parameters names: blocks for build, losses for fit."""
    return words(word.choice.of_kind) if word.choice else {}


def function(word: Word) -> Callable:
    """The function, or class, that is the word."""
    if word.home in _added:
        name = f"reducenet_words_{abs(hash(word.home)):x}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, word.home)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return getattr(sys.modules[name], word.function)
    if (_namespace(word.kind), word.name) in _here and not word.home.startswith("reducenet."):
        return _here[_namespace(word.kind), word.name][0]
    return getattr(importlib.import_module(word.home), word.function)
