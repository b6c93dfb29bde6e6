"""The pictures of docs/concepts.md but for those of what was measured or is on a disk (pure)."""

from docsite.svg import (
    BLUE,
    GREEN,
    LINE,
    PALE,
    PALE_BLUE,
    PALE_GREEN,
    PALE_ORANGE,
    QUIET,
    Drawing,
)


def versions() -> Drawing:
    """Two versions as folders; what both have is one file in the cache."""
    picture = Drawing(
        *(760, 330),
        "Versions are folders",
        "Two folders, v0.4.0 and v0.5.0, with three files each. One file is the same in both. Arrows lead from the"
        " six names to five files in the cache: the two names of the same file to one.",
    )
    files = {"v0.4.0": (PALE_BLUE, "units.csv"), "v0.5.0": (PALE_ORANGE, "units.csv")}
    for number, (version, (colour, table)) in enumerate(files.items()):
        left = 30 + number * 390
        picture.text(left, 30, f"~/vbn/manifests/{version}", bold=True)
        picture.box(left, 42, 310, 130, PALE, line=LINE)
        for row, (name, fill) in enumerate(
            ((table, colour), ("session_1044.nwb", colour), ("session_1052.nwb", PALE_GREEN))
        ):
            picture.box(left + 15, 54 + row * 38, 280, 30, fill, line=LINE)
            picture.text(left + 25, 74 + row * 38, name)
    picture.text(30, 320, "in the cache: each different file once", ink=QUIET)
    for number, fill in enumerate((PALE_BLUE, PALE_BLUE, PALE_GREEN, PALE_ORANGE, PALE_ORANGE)):
        picture.box(70 + number * 130, 250, 100, 40, fill, line=LINE)
    for left, to in ((90, 120), (160, 250), (230, 375), (480, 385), (550, 510), (620, 640)):
        picture.arrow(left, 172, to, 248)
    return picture


def travels() -> Drawing:
    """A file as blocks: those that are read travel, with some beside them."""
    picture = Drawing(
        *(760, 270),
        "Only what is read travels",
        "A session's file on S3 is a row of 48 blocks. A program reads three places. The blocks of these places, and"
        " some next to them, come into the cache. The other blocks stay where they are.",
    )
    read, beside = {0, 17, 18, 41}, {1, 2, 19, 20, 40, 42}
    picture.text(20, 30, "a session's file on S3, in blocks of 256 KiB", bold=True)
    picture.text(20, 252, "in the cache on your disk", bold=True)
    for number in range(48):
        left = 20 + number * 15
        colour = BLUE if number in read else PALE_BLUE if number in beside else PALE
        picture.box(left, 42, 13, 36, colour, line=LINE)
        picture.box(left, 192, 13, 36, colour if number in read | beside else "#ffffff", line=LINE)
    for middle, what in ((1, "the file's structure"), (18.5, "one unit's spikes"), (41, "their index")):
        x = 27 + middle * 15
        picture.arrow(x, 82, x, 188)
        picture.text(x + 8, 130, what, size=12)
    picture.text(740, 252, "dark: what the program reads; pale: its neighbourhood", anchor="end", size=12, ink=QUIET)
    return picture


def kept() -> Drawing:
    """What becomes of a file in the cache."""
    picture = Drawing(
        *(760, 250),
        "What is kept",
        "A file is not cached; when it is read it is partly cached; when all its blocks are there and its hash has"
        " matched it is whole. When the cache is full, files that were not used for long go back to not cached."
        " Pinned files stay.",
    )
    states = (
        (20, PALE, "not cached", "only a name and a size"),
        (290, PALE_BLUE, "partly cached", "the blocks that were read"),
        (560, PALE_GREEN, "whole", "its hash has matched"),
    )
    for left, fill, *lines in states:
        picture.labelled(left, 40, 180, 64, fill, *lines)
    picture.arrow(200, 62, 288, 62)
    picture.text(244, 52, "read", anchor="middle", size=12)
    picture.arrow(470, 62, 558, 62)
    picture.text(514, 52, "read on", anchor="middle", size=12)
    picture.arrow(380, 104, 380, 168)
    picture.arrow(620, 104, 460, 168)
    picture.labelled(280, 170, 200, 52, PALE_ORANGE, "the cache is full", "what was unused for longest")
    picture.arrow(278, 196, 110, 106)
    picture.text(140, 196, "deleted", size=12)
    picture.labelled(560, 170, 180, 52, GREEN + "33", "pinned", "is never deleted")
    picture.arrow(690, 106, 690, 168)
    picture.text(698, 142, "pin", size=12)
    return picture


def read() -> Drawing:
    """The path of a read, and where it may end."""
    picture = Drawing(
        *(760, 400),
        "The path of a read",
        "A program asks the kernel. The kernel answers from its memory, or from a whole cached file itself, or asks"
        " vbnfs. vbnfs answers from memory, from the cache on the disk, or asks S3 for the blocks, stores them and"
        " answers.",
    )
    steps = (
        (PALE, ("your program", "open, seek, read"), ""),
        (PALE_BLUE, ("the kernel", "pages that it has in memory"), "microseconds"),
        (PALE_ORANGE, ("vbnfs", "blocks that it has in memory"), "tens of microseconds"),
        (PALE_GREEN, ("the cache", "blocks on your disk, checked"), "as fast as the disk"),
        (PALE, ("S3", "the object version of the manifest"), "after a round trip"),
    )
    for number, (fill, lines, cost) in enumerate(steps):
        top = 20 + number * 75
        picture.labelled(210, top, 300, 50, fill, *lines)
        picture.text(530, top + 30, cost, ink=QUIET)
        if number:
            picture.arrow(330, top - 25, 330, top - 2)
            picture.arrow(390, top - 2, 390, top - 23)
    picture.text(20, 350, "what comes from S3 is", ink=QUIET, size=12)
    picture.text(20, 368, "stored on the way up", ink=QUIET, size=12)
    return picture
