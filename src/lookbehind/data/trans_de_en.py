"""Find the German-English dictionary of Frank Richter (TU Chemnitz) is, as Debian's package trans-de-en installs it.

It is under the GPL (version 2 or later): it is read where it is installed, and no part of it is in this package.
"""

from __future__ import annotations

from pathlib import Path

from lookbehind.data.errors import DataError

DEBIAN = Path("/usr/share/trans/de-en")


def find(root: Path) -> Path:
    """Return the file: in the folder trans-de-en under the root, or where the Debian package has it.

    Raises:
        DataError: if it is in neither place.

    """
    own = root / "trans-de-en" / "de-en"
    for path in (own, DEBIAN):
        if path.is_file():
            return path
    raise DataError(
        f"the dictionary trans-de-en is neither at {DEBIAN} nor at {own}: apt-get install trans-de-en, or put the file "
        "de-en of that package there, or name another root folder in LOOKBEHIND_DATA"
    )
