"""The tree of exceptions, and what each becomes at the mount."""

import errno
import inspect
import re

import pytest

from vbnfs import errors

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, errors.VbnfsError)
}


def drawn() -> list[tuple[int, str, str]]:
    """Depth, class and errno of each line of the drawing in the module's docstring."""
    rows = re.findall(r"^    ([│├└─ ]*)(\w+Error) +(E[A-Z]+)\b", str(errors.__doc__), re.MULTILINE)
    return [(len(indent) // 4, name, code) for indent, name, code in rows]


def test_the_drawing_shows_every_class() -> None:
    """The docstring's drawing has each exception of the module once, and no other."""
    assert sorted(name for _, name, _ in drawn()) == sorted(CLASSES)


def test_the_drawing_is_the_inheritance() -> None:
    """Each exception derives from the one that stands above it in the drawing, and from no other of vbnfs's."""
    above: dict[int, type[BaseException]] = {-1: Exception}
    for depth, name, _ in drawn():
        first, *others = CLASSES[name].__bases__
        assert first == above[depth - 1]
        assert not any(issubclass(other, errors.VbnfsError) for other in others)
        above[depth] = CLASSES[name]


@pytest.mark.parametrize(("name", "code"), [(name, code) for _, name, code in drawn()])
def test_the_drawing_tells_the_errno(name: str, code: str) -> None:
    """Each exception's errno is the one in the drawing."""
    assert errno.errorcode[CLASSES[name].errno] == code


@pytest.mark.parametrize("name", CLASSES)
def test_an_exception_is_made_of_its_message(name: str) -> None:
    """Each can be made again from its name and its message, as the process that waits for a daemon does."""
    made = CLASSES[name]("what happened")
    assert str(made) == "what happened"
    assert CLASSES[name].__doc__


@pytest.mark.parametrize("name", CLASSES)
def test_an_exception_once_more(name: str) -> None:
    """A copy of an exception is another object of the same class and message, caused by the first."""
    first = CLASSES[name]("what happened")
    again = errors.copy_error(first)
    assert again is not first
    assert (type(again), str(again), again.__cause__) == (type(first), "what happened", first)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ([errors.DatasetError("first"), ExceptionGroup("inner", [errors.MountError("second")])], "DatasetError"),
        ([ExceptionGroup("inner", [errors.MountError("first")]), errors.DatasetError("second")], "MountError"),
        ([errors.DatasetError("first"), BaseExceptionGroup("inner", [KeyboardInterrupt()])], "KeyboardInterrupt"),
        ([errors.DatasetError("first"), KeyError("a defect")], "ExceptionGroup"),
    ],
)
def test_the_reason_of_a_group(members: list[BaseException], name: str) -> None:
    """Of what several tasks raised, Ctrl-C counts most, then the first failure; a defect shows all there is."""
    group = BaseExceptionGroup("of a nursery", members)
    reason = errors.root_error(group)
    assert type(reason).__name__ == name
    assert reason is group or str(reason) in {"", "first"}
