"""The command `embarc`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what is missing."""
    try:
        from embarc.cli.commands import app  # the receiver SDK is installed without any of this
    except ModuleNotFoundError as error:
        sys.exit(
            f"embarc: the command line needs the package {error.name}. Install it with: pip install 'embarc[server]'"
        )
    app()
