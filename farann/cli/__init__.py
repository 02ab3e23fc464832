"""The command line: `arguments` has parser and help, `commands` what the commands do.

It imports the public package alone, and files; nothing imports it but ``python -m farann``.
"""

from farann.cli.arguments import main

__all__ = ["main"]
