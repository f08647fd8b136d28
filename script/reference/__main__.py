"""`python -m script.reference`: writes what is generated, and says which files that changed."""

from __future__ import annotations

import sys

from script.reference import pages


def main() -> int:
    """Writes each file whose text has changed; 0 in any case."""
    for path, text in pages.generated().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(pages.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
