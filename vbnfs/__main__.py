"""`python -m vbnfs` is `vbnfs`."""

from vbnfs.cli.main import main

if __name__ == "__main__":
    main()
