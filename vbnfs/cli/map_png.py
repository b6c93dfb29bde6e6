"""A picture as PNG, drawn by Pillow (the only module that imports it, which is an extra)."""

import io
from functools import cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from vbnfs.cli.map_drawing import INK, Box, Picture, Text

_SCALE: Final = 2  # pixels of a CSS pixel, for screens of today and for print


def png_bytes(picture: Picture) -> bytes:
    """The picture, with two pixels for each of its own in either direction."""
    image = Image.new("RGB", (round(picture.width * _SCALE), round(picture.height * _SCALE)), "#ffffff")
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        match shape:
            case Box(left, top, width, height, colour):
                corner = (_pixels(left + width) - 1, _pixels(top + height) - 1)
                draw.rectangle(((_pixels(left), _pixels(top)), corner), fill=colour)
            case Text(left, baseline, text, size, anchor, is_bold):
                place = (_pixels(left), _pixels(baseline))
                side = "rs" if anchor == "end" else "ls"  # of its baseline (Pillow, "Text anchors")
                stroke = 1 if is_bold else 0  # its own font has one weight
                draw.text(place, text, fill=INK, font=_font(size), anchor=side, stroke_width=stroke / 2)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _pixels(length: float) -> int:
    return round(length * _SCALE)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SCALE)
