"""A picture as SVG (pure).

It is that of W3C, "Scalable Vector Graphics (SVG) 1.1", with a title and a description for people who cannot see it.
"""

from xml.sax.saxutils import escape as escape_xml
from xml.sax.saxutils import quoteattr

from vbnfs.cli.map_drawing import INK, Box, Picture, Text


def svg_bytes(picture: Picture) -> bytes:
    """`svg` as UTF-8."""
    return svg(picture).encode("utf-8", "backslashreplace")


def svg(picture: Picture) -> str:
    """A picture as SVG. It has a background: a viewer may have a dark one."""
    width, height = f"{picture.width:g}", f"{picture.height:g}"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' role="img" aria-labelledby="title description" font-family="sans-serif">',
        f'<title id="title">{escape_xml(picture.title)}</title>',
        f'<desc id="description">{escape_xml(picture.description)}</desc>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *map(_element, picture.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _element(shape: Box | Text) -> str:
    match shape:
        case Box(left, top, width, height, colour):
            place = f'x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"'
            return f'<rect {place} fill={quoteattr(colour)} shape-rendering="crispEdges"/>'
        case Text(left, baseline, text, text_size, anchor, is_bold):
            more = (' text-anchor="end"' if anchor == "end" else "") + (' font-weight="bold"' if is_bold else "")
            place = f'x="{left:g}" y="{baseline:g}" font-size="{text_size:g}" fill="{INK}"{more}'
            return f"<text {place}>{escape_xml(text)}</text>"
