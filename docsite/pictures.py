"""The pictures that the documents show, by their names: what is drawn from words and figures (pure)."""

from docsite.benchmark_picture import benchmark
from docsite.concept_pictures import kept, read, travels, versions
from docsite.scale_picture import scale


def drawn(performance: str, at_scale: str) -> dict[str, str]:
    """The pictures that need no mount, as SVG, by the names of their files.

    `performance` is docs/PERFORMANCE.md, `at_scale` docs/scale.md.
    """
    pictures = {
        "versions": versions(),
        "travels": travels(),
        "kept": kept(),
        "read": read(),
        "benchmark": benchmark(performance),
        "scale": scale(at_scale),
    }
    return {f"{name}.svg": picture.svg() for name, picture in pictures.items()}
