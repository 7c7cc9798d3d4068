"""What the scripts of this directory share as commands: exit codes, one-line errors, the parser, packages that are missing.

Messages go to stderr in one line each. The exit codes are those of facet (docs/running.md).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import unicodedata

USAGE = 64  # the command line cannot be used
BAD_INPUT = 65  # an input file is wrong
MISSING_INPUT = 66  # an input file or directory is not there, cannot be read, or is no regular file
NOT_WRITTEN = 74  # the output cannot be written
NOT_SUPPORTED = 78  # a Python package is missing

PACKAGES = "apt-get install python3-pandas python3-matplotlib, or without root: python3 -m pip install --user pandas matplotlib"


class Failure(Exception):
    """Ends a script with one line and an exit code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def printable(text):
    """The text in one line: an escape stands for what would begin a line, move a cursor or turn the direction of reading."""
    return "".join(_shown(c) for c in str(text))


def _shown(character):
    code = ord(character)
    if character == " " or (unicodedata.category(character)[0] not in "CZ" and code != 0x7F):
        return character
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code in (0x09, 0x0A, 0x0D):
        return {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}[code]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def note(message):
    """Something to know that ends nothing."""
    print(f"note: {printable(message)}", file=sys.stderr)


def require(module):
    """Imports a package that Python does not bring along, or ends the script with a line that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        print(f"error: {sys.executable} cannot load {module} ({printable(error)}); {PACKAGES}", file=sys.stderr)
        sys.exit(NOT_SUPPORTED)


class Parser(argparse.ArgumentParser):
    """Shows the examples of the script's docstring as they are written; ends with facet's code for a wrong command line."""

    def __init__(self, docstring):
        about, _, examples = docstring.partition("\n\n")
        super().__init__(description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        raise Failure(USAGE, f"{message}; {self.prog} --help lists the options")


def positive(text):
    """A whole number from 1, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{printable(text)}' is not a whole number from 1")
    return int(text)


def run(main):
    """Ends the process with what main() returns; with a line and a code after a Failure, quietly if stdout's reader went away."""
    try:
        code = main()
        sys.stdout.flush()
    except Failure as failure:
        print(f"error: {printable(failure)}", file=sys.stderr)
        code = failure.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = NOT_WRITTEN
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
