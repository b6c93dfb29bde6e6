"""Where the programs begin: `vbnfs`, which is also `python -m vbnfs`, and `mount.vbnfs`."""

from vbnfs import interrupts


def main() -> None:
    """Run `vbnfs`; interrupted, it ends with status 130."""
    interrupts.end_at_once("vbnfs", 130)
    from vbnfs.cli.main import main as run  # noqa: PLC0415 - it takes a while

    run()


def mount_helper() -> None:
    """Run `mount.vbnfs`; interrupted, it ends with mount(8)'s status 8."""
    interrupts.end_at_once("mount.vbnfs", 8)
    from vbnfs.cli.mount_helper import main as run  # noqa: PLC0415 - it takes a while

    run()


if __name__ == "__main__":
    main()
