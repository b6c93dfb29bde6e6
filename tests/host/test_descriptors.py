"""The descriptors that a process was started with."""

import errno
import os
import resource

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


def test_what_is_kept_back_can_be_opened_later() -> None:
    """Descriptors that are kept back are free again when they are given back, once, or at the end."""
    free = os.dup(0)
    os.close(free)
    for is_early in (True, False):
        with descriptors.kept_back(3) as give_back:
            os.close(other := os.dup(0))
            assert other >= free + 3
            if is_early:
                give_back()
                os.close(first := os.dup(0))
                assert first == free
        os.close(first := os.dup(0))
        assert first == free


def test_as_many_as_there_are_are_kept_back() -> None:
    """With hardly any descriptor left, fewer are kept, and that is no error."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, before[1]))
    try:
        with descriptors.kept_back(12) as give_back:
            assert not descriptors.are_left()
            give_back()
            os.close(os.dup(0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the open descriptors cannot be listed, none is known to be inherited."""
    monkeypatch.setattr(descriptors, "_OPEN", "/nowhere")
    assert descriptors.inherited() == frozenset()
