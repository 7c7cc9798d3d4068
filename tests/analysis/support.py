"""A test's own directory, and scripts run inside the test's process as from the command line."""

import contextlib
import importlib
import io
import os
import shutil
import sys
import tempfile
import unittest
from unittest import mock


class ScriptTest(unittest.TestCase):
    """`self.at(...)` is a path in the test's directory, `self.call` runs a script."""

    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)

    def at(self, *parts):
        return os.path.join(self.directory, *parts)

    def write(self, name, content):
        path = self.at(name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def arguments(self, script, arguments):
        return mock.patch.object(sys, "argv", [script + ".py", *map(str, arguments)])

    def quiet(self):
        """Without notes on stderr."""
        return contextlib.redirect_stderr(io.StringIO())

    def call(self, script, *arguments):
        """Exit code, stdout, stderr of a script's main()."""
        module = importlib.import_module(script)
        out, err = io.StringIO(), io.StringIO()
        with self.arguments(script, arguments), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with self.assertRaises(SystemExit) as end:
                module.cli.run(module.main)
        return end.exception.code or 0, out.getvalue(), err.getvalue()

    def succeed(self, script, *arguments):
        """What a script prints that must end with 0 and without a note."""
        code, out, err = self.call(script, *arguments)
        self.assertEqual((code, err), (0, ""))
        return out

    def refuse(self, code, text, script, *arguments):
        """The script ends with that code and one line that has the text in it."""
        found, out, err = self.call(script, *arguments)
        self.assertEqual(found, code, err)
        self.assertEqual(out, "")
        self.assertEqual(err.count("\n"), 1, err)
        self.assertTrue(err.startswith("error: "), err)
        self.assertIn(text, err)
