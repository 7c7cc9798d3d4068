"""Runs the *_test.py files of a directory (default: this one) and prints GoogleTest's result lines, "[       OK ] Suite.Name (12 ms)"."""

import fnmatch
import os
import signal
import sys
import time
import traceback
import unittest

TIME_LIMIT = 60  # seconds of a test; one that needs more hangs
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../../scripts/analysis"), os.path.join(HERE, "../../scripts"), HERE]


class Result(unittest.TestResult):
    """A line when a test begins and one when it ends; a failure's traceback in between."""

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        signal.alarm(TIME_LIMIT)
        print(f"[ RUN      ] {name_of(test)}", flush=True)

    def stopTest(self, test):
        signal.alarm(0)
        took = int(1000 * (time.monotonic() - self.began))
        failed = any(test is failed for failed, _ in self.failures + self.errors)
        print(f"[{'  FAILED  ' if failed else '       OK '}] {name_of(test)} ({took} ms)", flush=True)
        super().stopTest(test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        traceback.print_exception(*err)

    def addError(self, test, err):
        super().addError(test, err)
        traceback.print_exception(*err)
        if not isinstance(test, unittest.TestCase) or not hasattr(test, "_testMethodName"):
            print(f"[  FAILED  ] {test} (0 ms)")  # setUpClass, say: no test of its class begins

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.failures.append((test, ""))
            print(f"in {subtest}:")
            traceback.print_exception(*err)


def name_of(test):
    """ "Suite.AFact" of class SuiteTest, method test_a_fact."""
    method = getattr(test, "_testMethodName", str(test))
    return (
        type(test).__name__.replace("Test", "") + "." + "".join(w.capitalize() for w in method.replace("test_", "", 1).split("_"))
    )


def tests_in(suite):
    for test in suite:
        yield from tests_in(test) if isinstance(test, unittest.TestSuite) else [test]


def give_up(*_):
    raise AssertionError(f"the test has not ended within {TIME_LIMIT} s")


def main():
    signal.signal(signal.SIGALRM, give_up)
    found = tests_in(unittest.defaultTestLoader.discover(sys.argv[1] if sys.argv[1:] else HERE, pattern="*_test.py"))
    chosen = unittest.TestSuite(test for test in found if fnmatch.fnmatchcase(name_of(test), os.environ.get("ONLY", "*")))
    result = Result()
    chosen.run(result)
    return 0 if result.wasSuccessful() and result.testsRun > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
