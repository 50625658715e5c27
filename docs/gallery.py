"""Draw the pictures of the gallery: python docs/gallery.py runs the Python code of its page in docs/images."""

import os
import re
from pathlib import Path

import matplotlib as mpl

DOCS = Path(__file__).parent.resolve()

if __name__ == "__main__":
    mpl.use("Agg")
    code = re.findall(r"^```python\n(.*?)^```$", (DOCS / "gallery.md").read_text(), re.MULTILINE | re.DOTALL)
    os.chdir(DOCS / "images")
    exec("\n".join(code), {"__name__": "gallery"})
