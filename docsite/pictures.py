"""The pictures that the documents show, by their names: what is drawn from words and figures (pure)."""

from docsite.benchmark_picture import benchmark
from docsite.concept_pictures import kept, read, travels, versions


def drawn(performance: str) -> dict[str, str]:
    """The pictures that need no mount, as SVG, by the names of their files. `performance` is docs/PERFORMANCE.md."""
    pictures = {
        "versions": versions(),
        "travels": travels(),
        "kept": kept(),
        "read": read(),
        "benchmark": benchmark(performance),
    }
    return {f"{name}.svg": picture.svg() for name, picture in pictures.items()}
