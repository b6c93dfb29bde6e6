"""The descriptors that a process was started with."""

import errno
import os

import pytest

from vbnfs.host import descriptors


def test_inherited_ones_are_closed_unless_they_are_used() -> None:
    """What survives execve(2) was inherited; what was taken into use since, and what is closed already, stays so."""
    reading, writing = os.pipe()  # as Python opens all of its own
    held, taken = os.dup(reading), os.dup(reading)
    for descriptor in (held, taken):
        os.set_inheritable(descriptor, True)
    found = descriptors.inherited()
    assert found >= {held, taken}
    assert found.isdisjoint({0, 1, 2, reading, writing})
    os.set_inheritable(taken, False)
    for _ in range(2):
        descriptors.close_inherited({held, taken})
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
            os.fstat(held)
        assert caught.value.errno == errno.EBADF
    for descriptor in (taken, reading, writing):
        os.close(descriptor)


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the open descriptors cannot be listed, none is known to be inherited."""
    monkeypatch.setattr(descriptors, "_OPEN", "/nowhere")
    assert descriptors.inherited() == frozenset()
