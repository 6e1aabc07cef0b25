"""The description on a package index: README.md with absolute links. Their one address is in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def absolute(text: str, address: str) -> str:
    """Return Markdown whose links into the project lead to its address: pages, and pictures as files.

    Args:
        text: the Markdown, with links relative to the project's folder.
        address: the address of the project's repository.

    """
    text = re.sub(r'(src|srcset)="(?!https?:)([^"]+)"', rf'\1="{address}/raw/main/\2"', text)
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\1{address}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\1{address}/blob/main/", text)


class Description(MetadataHookInterface):
    """Fill in the field ``readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the README with the address ``Source`` of ``[project.urls]``."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, metadata["urls"]["Source"]),
        }
