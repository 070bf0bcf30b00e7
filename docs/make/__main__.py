"""Write the documentation's generated parts.

`python -m docs.make` writes the generated pages, `python -m docs.make pictures` draws the pictures from real runs, and
`python -m docs.make notebook` runs the example notebook.
"""

from __future__ import annotations

import sys

from docs.make import generated


def main(what: str) -> int:
    """Write one kind of generated file.

    Args:
        what: pages, pictures or notebook.

    Returns:
        The exit code: 0, or 2 for an unknown argument.
    """
    if what == "pages":
        for path, text in generated.PAGES.items():
            path.write_text(text(), encoding="utf-8")
    elif what == "pictures":
        from docs.make import pictures

        pictures.draw()
    elif what == "notebook":
        from docs.make import notebook

        notebook.run()
    else:
        print(f"unknown argument {what!r}: pages (default), pictures or notebook", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["pages"])))
