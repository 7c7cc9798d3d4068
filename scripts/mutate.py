#!/usr/bin/env python3
"""Mutation testing of the CUDA kernels, run on the CPU: breaks one place at a time and checks whether a test fails.

usage: make mutate                    all mutants of synchronisation and a sample of MUTANTS others, the same on every run
       make mutate MUTANTS=all        every mutant of kernels/cuda/*.cu and *.h, and of the sources of HOST
       make mutate ONLY=rows.h:57     the mutants of a file or of one line; with MUTANTS=12: those of synchronisation and 12 others
       make mutate ONLY=rows.h:57-80  the mutants of some lines
       make mutate ONLY=barrier      the mutants of one operator
       make mutate ONLY=survivors     those that survived the last time, with the tests of today
       make mutate ONLY=explained     those with an entry in tests/kernels/equivalent_mutants.txt
       make mutate ONLY=self          the tool's own test: a dropped barrier is killed, a renamed variable survives

Mutants of ALWAYS are few, and what the emulation is for: all are tried. The others of a file (mutation_operators.py) are drawn by
SEED, one operator after the other, and each file has a share of the sample in proportion to its mutants. A mutant is compiled in a
copy of the tree and linked with the objects of the live one; then the tests of its kernels run plain, sanitized and with the race
check until one program turns red, or takes more than ten times the CPU time of the unmodified kernels, or none for two minutes: how
busy the machine is decides nothing. Results stand in build/mutate/results.jsonl; a run that was cut goes on where it stood while
kernels and tests are the same.

A mutant that changes nothing a test could see gets an entry in tests/kernels/equivalent_mutants.txt, which says why: it runs plain
only and counts as explained. An entry fails the run if its line is gone or stands at other places, too, or if its mutant is
killed. The run passes if at least 90 % of the mutants are killed or explained; survivors are printed as entries that lack their reason.
"""
import collections
import glob
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

from mutation_operators import OPERATORS, Mutant, mutants_of

SEED = "2026-11-26"
SAMPLE = 200
ALWAYS = ("barrier", "wait", "shared", "atomic")
PROGRAMS = ["plain", "race", "sanitized"]  # the quickest to build first
IDLE_SECONDS = 120  # without CPU time: then a program waits for what never comes
FLAGS = "-O1 -g0 -w"  # code that only causes warnings is a valid mutant
NO_BUILD = "does not compile"
ALIVE = ("survived", "same code")
EXPLAINED = "explained"
UNCHANGED = ["kernels/gpu.h", "kernels/gpu_hopper.h", "ops/ops.h"]  # compiled once: half of what a small kernel takes
HOST = ["joint_order.cpp"]  # what the host decides for a kernel and only the kernels' tests see

# The tests of a kernel file: filters in the order in which they run, quick ones first. A file not listed here is tested by all
# suites of the test files that name one of its launchers, a header by the tests of each kernel file that includes it.
HOPPER = ["*HopperAttentionParity*causal7_bf16*:*HopperAttentionParity*some_published*",
          "*HopperAttention*:HopperOfAttention*:*HopperTurned*"]
JOINT = ["*HopperAttentionParity.JointBackward*causal7_bf16*:*HopperAttentionParity.JointBackward*some_published*",
         "*HopperAttentionParity.Joint*:*HopperAttentionLate*:*HopperAttentionEmpty*:*HopperTurned*"]
JOINT_ORDER = ["AttentionWork.Turns*:AttentionWork.Joint*:JointOrder*", JOINT[0]]
JOINT_MMA = ["*JointAttentionParity*causal7_*:*JointAttentionParity*some_published*", "*JointAttentionParity*:*JointTurned*"]
LORA_PRODUCT = ["*LoraProduct.*one_row_bf16*:*LoraProduct.*tails_bf16*:*TurnedHeads*q_and_k_of_64_bf16*", "*LoraProduct*"]
ATTENTION = ["*AttentionParity*mixed*E64:TensorCores*",
             "*AttentionParity*:*TurnedGradients*-*1025*"]  # a long case takes half of the suite's time
TESTS = {
    "attention_forward_hopper": HOPPER,
    "attention_backward_hopper": HOPPER,
    "attention_backward_joint_hopper": JOINT,
    "attention_backward_joint_mma.h": JOINT_MMA,
    "attention_forward": ATTENTION,
    "attention_backward": ATTENTION,
    "attention_decode": ["*AttentionDecode*"],
    "decode_work": ["*AttentionDecode*:AttentionLaunches*"],
    "joint_order.h": JOINT_ORDER,
    "joint_order.cpp": JOINT_ORDER,
    "attention_work": ["AttentionWork*", *ATTENTION],
    "adamw": ["*AdamWParity*:GradientStatistics*"],
    "cross_entropy": ["*LossParity.CrossEntropy*_7x*", "*LossParity.CrossEntropy*"],
    "splice": ["*LossParity.Splice*_7x*", "*LossParity.Splice*:*SpliceOfManyRows*"],
    "layer_norm": ["*NormParity.*Layer*7x*", "*NormParity*.*Layer*"],
    "rms_norm": ["*NormParity.*Rms*_7x*", "*NormParity.*Rms*bf16*"],
    "gelu": ["*ActivationParity.*Gelu*"],
    "swiglu": ["*ActivationParity.Swiglu*", "*SwigluLora*"],
    "swiglu_lora": ["*SwigluLora*"],
    "lora_product": ["LoraInOneProduct.*", *LORA_PRODUCT],
    "lora_product_hopper": [*LORA_PRODUCT, "LoraInOneProduct.*"],
    "lora_slices.h": ["*LoraParity.Backward/bf16*:*LoraPartsParity.Backward/bf16*",
                      "*LoraParity.Absent*16_*:*LoraParity.Backward/fp16*:*LoraPartsParity.Backward*16_*-*4096*"],
    "lora_rows.h": ["*Lora*Parity.*_7x*", "*LoraParity.*:*LoraPartsParity.*"],
    "lora_gradients.h": ["*LoraParity.Backward*_7x*", "*LoraParity.*Backward*:*LoraParity.Absent*:*LoraPartsParity.Backward*"],
    "rope": ["*RopeParity*"],
    "rows": ["*RowsParity*:RowsOf*:EmptyMatrices*"],
    "backend": ["Backend*:*BackendOp*:*BackendCounts*", "LateStreams*:*Linear*:*AttentionParity*-*1025*"],
    "vector": ["*RowsParity*:RowsOf*:EmptyMatrices*:*TotalParity*:TotalOf*"],
    "vision_embed": ["*VisionParity*"],
}

LIVE = pathlib.Path(__file__).resolve().parent.parent
BUILD = LIVE / os.environ.get("BUILD", "build")
WORK = BUILD / "mutate"
COPY = WORK / "tree"
EQUIVALENT = LIVE / "tests/kernels/equivalent_mutants.txt"
ENVIRONMENT = {**os.environ, "CCACHE_DISABLE": "1", "OMPI_CXX": "g++"}


class Run(collections.namedtuple("Run", "code output seconds")):
    """`seconds`: of CPU time."""
    NO_END = "no end"


def cpu_seconds(session):
    """The CPU time of the processes of a session, and of children that they have waited for."""
    ticks = 0
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = pathlib.Path(path).read_text(errors="replace").rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def wait(process, limit):
    """The exit code; None for a process that took more than `limit` seconds of CPU time or has stopped taking any."""
    last, moved = 0.0, time.monotonic()
    while True:
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            taken = cpu_seconds(process.pid)
        if taken > last:
            last, moved = taken, time.monotonic()
        if taken > limit or time.monotonic() - moved > IDLE_SECONDS:
            return None


def run(command, limit, directory=COPY):
    """Runs a command; one that does not end (see wait) is killed with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(WORK / "output.txt", "w+", errors="replace") as output:
        process = subprocess.Popen(command, shell=isinstance(command, str), cwd=directory, env=ENVIRONMENT, stdout=output,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        code = wait(process, limit)
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = Run.NO_END
        output.seek(0)
        text = output.read()[-20000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(code, text, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def copy_tree():
    """The files that a kernel or a test includes, in a private copy."""
    shutil.rmtree(COPY, ignore_errors=True)
    for room in ("kernels", "src", "tests"):
        shutil.copytree(LIVE / room, COPY / room)
    (WORK / "objects").mkdir(parents=True, exist_ok=True)


def key_of_tree():
    """Changes with the kernels and their tests."""
    digest = hashlib.sha256(SEED.encode())
    for path in sorted([*glob.glob(f"{LIVE}/kernels/**/*", recursive=True), *glob.glob(f"{LIVE}/tests/kernels/*"),
                        *glob.glob(f"{LIVE}/scripts/muta*.py")]):
        if os.path.isfile(path) and not path.endswith((".md", ".txt")):
            digest.update(pathlib.Path(path).read_bytes())
    return digest.hexdigest()[:16]


class Program:
    """One of the three test programs: how its objects are compiled and linked."""

    def __init__(self, name):
        self.name = name
        self.compile = os.environ["COMPILE_" + name]
        self.link = os.environ["LINK_" + name]
        self.objects = os.environ["OBJECTS_" + name].split()
        self.live = BUILD / "emulated" / ("test_kernels" + ("" if name == "plain" else "_" + name))
        self.durations, self.has_precompiled = {}, False

    def object_of(self, source):
        return next(o for o in self.objects if o.endswith("/obj/" + os.path.splitext(source)[0] + ".o"))

    def compile_source(self, source, target, tree=COPY):
        # The race check is in the kernels alone.
        if not source.endswith(".cu"):
            command = os.environ["COMPILE_plain"] if self.name == "race" else self.compile
            return run(f"{command} {FLAGS} -x c++ -c -o {target} {source}", 900, tree)
        return run(f"{self.compile} {FLAGS} -include {self.precompiled()} -x c++ -c -o {target} {source}", 900, tree)

    def precompiled(self):
        """The headers of UNCHANGED."""
        header = WORK / f"precompiled_{self.name}.h"
        if not self.has_precompiled:
            header.write_text("".join(f'#include "{path}"\n' for path in UNCHANGED))
            if run(f"{self.compile} {FLAGS} -x c++-header -c -o {header}.gch {header}", 900).code != 0:
                sys.exit(f"{header} does not compile")
            self.has_precompiled = True
        return header

    def link_with(self, changed, target):
        """`changed`: live object to new object; these come first, so that their template instances are the ones linked."""
        kept = [str(LIVE / o) for o in self.objects if o not in changed]
        linker = "-fuse-ld=lld" if shutil.which("ld.lld") else ""
        objects = " ".join([*changed.values(), *kept])
        return run(self.link.replace("{objects}", f"{linker} -Wl,-S -o {target} {objects}"), 300, LIVE)

    def limit(self, tests):
        """Seconds of CPU time that a mutant may take: ten times those of the unmodified kernels, which must pass."""
        if tests not in self.durations:
            result = run([str(self.live), "--gtest_brief=1", f"--gtest_filter={tests}"], 1800)
            if result.code != 0 or " 0 tests ran" in result.output:
                sys.exit(f"{self.live} --gtest_filter={tests} must run and pass without a mutant:\n{result.output[-2000:]}")
            self.durations[tests] = result.seconds
        return 10 + 10 * self.durations[tests]


def read_users():
    """Which sources include which file, by the compiler's dependency files."""
    users = collections.defaultdict(set)
    for path in glob.glob(f"{BUILD}/emulated/plain/obj/**/*.d", recursive=True):
        words = pathlib.Path(path).read_text().split("\n\n")[0].replace("\\\n", " ").split()
        sources = [w for w in words[1:] if not w.endswith(":")]
        for word in sources[1:]:
            users[os.path.normpath(word)].add(os.path.normpath(sources[0]))
    return users


def suites_of(path):
    names = re.findall(r"^TEST(?:_P|_F)?\((\w+)", pathlib.Path(path).read_text(), re.M)
    return sorted({f"*{name}.*" for name in names})


def tests_of(path, name):
    """The filters of the tests of a changed file that is part of kernel file `name`, or of the backend."""
    header = os.path.basename(path)
    if header in TESTS:
        return TESTS[header]
    if name in TESTS:
        return TESTS[name]
    source, suites = LIVE / f"kernels/cuda/{name}.cu", []
    declared = (LIVE / "kernels/cuda/launchers.h").read_text()
    named = {word for word in re.findall(r"^void (\w+)\(", source.read_text(), re.M) if f" {word}(" in declared}
    for path in sorted(glob.glob(f"{LIVE}/tests/kernels/*_test.cpp")):
        if any(f"{launcher}(" in open(path).read() for launcher in named):
            suites += suites_of(path)
    if not suites:
        sys.exit(f"no test names a launcher of kernels/cuda/{name}.cu: add one, or an entry of TESTS in scripts/mutate.py")
    return [":".join(sorted(suites))]


class Judge:
    def __init__(self):
        self.programs = [Program(name) for name in PROGRAMS]
        self.users = read_users()
        self.unmutated = {}

    def families(self, path):
        """For each kernel file that a changed file is part of: its name and the sources to compile again, small ones first."""
        sources = {path} if path.endswith((".cu", ".cpp")) else self.users[path]
        kernels = sorted((s for s in sources if s.endswith(".cu") and s.startswith("kernels/")),
                         key=lambda s: os.path.getsize(LIVE / self.programs[0].object_of(s)))
        others = sorted(sources - set(kernels))
        if not kernels:  # a header of the backend, or of the tests only
            backend = [s for s in others if s.startswith("kernels/")]  # the programs' other sources are not linked here
            yield "backend", backend or [s for s in others if s.startswith("tests/kernels/")]
        for kernel in kernels:
            name = pathlib.Path(kernel).stem
            yield name, [kernel, *(s for s in others if pathlib.Path(s).stem.split("_")[0] in name)]

    def same_code(self, source, built):
        """Whether the machine code equals that of the unmutated source."""
        if source not in self.unmutated:
            target = WORK / "objects" / ("unmutated_" + source.replace("/", "_") + ".o")
            if self.programs[0].compile_source(source, target, LIVE).code != 0:
                sys.exit(f"{source} does not compile without a mutant")
            self.unmutated[source] = target.read_bytes()
        return pathlib.Path(built).read_bytes() == self.unmutated[source]

    def try_family(self, program, path, name, sources):
        changed = {}
        for source in sources:
            target = str(WORK / "objects" / (source.replace("/", "_") + ".o"))
            if program.compile_source(source, target).code != 0:
                return NO_BUILD
            changed[program.object_of(source)] = target
        if program.name == "plain" and all(self.same_code(s, changed[program.object_of(s)]) for s in sources):
            return "same code"
        executable = WORK / "test_mutant"
        linked = program.link_with(changed, executable)
        if linked.code != 0:
            return NO_BUILD
        for tests in tests_of(path, name):
            limit = program.limit(tests)
            result = run([str(executable), "--gtest_fail_fast", "--gtest_brief=1", f"--gtest_filter={tests}"], limit)
            if result.code == Run.NO_END:
                return "no end"
            if result.code != 0:
                return program.name
        return None

    def judge(self, path, names, skipped=()):
        """Which of these programs kills the mutant in the copy, or "survived", "same code", NO_BUILD; and the
        kernel files whose code it does not change."""
        families = [f for f in self.families(path) if f[0] not in skipped]
        if PROGRAMS[0] not in names:  # a header that all kernels include: the quickest to build
            families = families[:3]
        same = set()
        for program in (p for p in self.programs if p.name in names):
            for name, sources in families:
                if name in same:
                    continue
                verdict = self.try_family(program, path, name, sources)
                if verdict == "same code":
                    same.add(name)
                elif verdict:
                    return verdict, same
        return "same code" if len(same) == len(families) else "survived", same


def one_line(text):
    return " ".join(text.split())


def describe(path, source, mutant):
    line = source.count("\n", 0, mutant.begin) + 1
    begin = source.rfind("\n", 0, mutant.begin) + 1
    end = source.find("\n", mutant.end)
    before = source[source.rfind("\n", 0, max(0, begin - 1)) + 1:begin]
    new = source[begin:mutant.begin] + mutant.text + source[mutant.end:end]
    return {"file": path, "line": line, "operator": mutant.operator, "before": one_line(before),
            "old": one_line(source[begin:end]), "new": one_line(new), "column": mutant.begin - begin + 1}


def in_order(path, source):
    """The mutants of ALWAYS, and the others in the order in which they are drawn: one of each operator in turn."""
    by_operator = collections.defaultdict(list)
    for mutant in mutants_of(source):
        place = describe(path, source, mutant)
        words = [SEED, path, *(str(place[k]) for k in ("file", "line", "operator", "old", "new", "column"))]
        by_operator[mutant.operator].append((hashlib.sha256("\0".join(words).encode()).hexdigest(), mutant))
    always = [mutant for operator in ALWAYS for _, mutant in by_operator.pop(operator, [])]
    turns = []
    for mutants in by_operator.values():
        turns += [(turn, rank, mutant) for turn, (rank, mutant) in enumerate(sorted(mutants, key=lambda m: m[0]))]
    return always, [mutant for _, _, mutant in sorted(turns, key=lambda t: t[:2])]


def shares(files, count):
    """How many mutants of each file: those of ALWAYS and in proportion to the others, at least one."""
    total = sum(len(drawn) for _, _, drawn in files.values())
    return {path: len(always) + min(len(drawn), max(1, round(count * len(drawn) / total)))
            for path, (_, always, drawn) in files.items()}


class Equivalents:
    """The entries of EQUIVALENT, which says how they are written."""
    FIELDS, OPTIONAL = {"file", "old", "new", "why"}, {"before", "places"}

    def __init__(self, text, files):
        self.names, self.problems = set(), []
        for block in re.split(r"\n\s*\n", re.sub(r"^#.*\n", "", text, flags=re.M).strip()):
            self.add(dict(line.split(": ", 1) for line in block.splitlines() if ": " in line), files)

    def add(self, entry, files):
        if set(entry) - self.OPTIONAL != self.FIELDS or entry["file"] not in files:
            self.problems.append(f"an entry of no kernel file, or not of the fields that its head names: {entry}")
            return
        source, always, drawn = files[entry["file"]]
        mutants = (describe(entry["file"], source, m) for m in always + drawn)
        found = [m for m in mutants if all(one_line(entry[k]) == m[k] for k in ("old", "new", "before") if k in entry)]
        if len(found) != int(entry.get("places", 1)):
            self.problems.append(f"{len(found)} places of {entry['file']} fit an entry of {entry.get('places', 1)}: {entry}")
        self.names.update(map(Results.name, found))

    def explain(self, entry):
        return Results.name(entry) in self.names


class Results:
    def __init__(self):
        self.path = WORK / "results.jsonl"
        self.key = key_of_tree()
        self.old = [json.loads(line) for line in open(self.path)] if self.path.exists() else []
        self.known = {self.name(r): r for r in self.old if r["key"] == self.key}

    @staticmethod
    def name(entry):
        return tuple(entry.get(k) for k in ("file", "before", "old", "new", "column", "operator"))

    def find(self, entry, explained):
        """What is known of a mutant; one that was explained, but is no longer, has not been through all programs."""
        known = self.known.get(self.name(entry))
        if known and explained and known["verdict"] in ALIVE:
            return {**known, "verdict": EXPLAINED}
        return None if known and not explained and known["verdict"] == EXPLAINED else known

    def add(self, entry):
        with open(self.path, "a") as out:
            out.write(json.dumps({"key": self.key, **entry}) + "\n")


def try_mutant(judge, path, source, mutant, names, skipped=(), explained=False):
    """The mutant's entry in the results, and the kernel files that it does not change."""
    entry = describe(path, source, mutant)
    begin = time.monotonic()
    (COPY / path).write_text(source[:mutant.begin] + mutant.text + source[mutant.end:])
    entry["verdict"], same = judge.judge(path, names, skipped)
    if explained and entry["verdict"] in ALIVE:
        entry["verdict"] = EXPLAINED
    (COPY / path).write_text(source)
    entry["seconds"] = round(time.monotonic() - begin, 1)
    print(f"{entry['verdict']:17} {entry['seconds']:6.1f} s  {path}:{entry['line']} {entry['operator']}: {entry['new'][:90]}", flush=True)
    return entry, same


def try_all(judge, results, files, share_of, wanted, equivalents):
    """The plain program for all mutants, then the others for its survivors without an explanation."""
    entries, passed = [], []
    for path, (source, always, drawn) in files.items():
        left = share_of[path]
        for mutant in (m for m in always + drawn if wanted(describe(path, source, m))):
            if left == 0:
                break
            place = describe(path, source, mutant)
            explained = equivalents.explain(place)
            known = results.find(place, explained)
            entry, same = (known, ()) if known else try_mutant(judge, path, source, mutant, PROGRAMS[:1], (), explained)
            if entry["verdict"] == "survived" and not known:
                passed.append((path, source, mutant, same))
            else:
                entries.append(entry)
                if not known:
                    results.add(entry)
            left -= entry["verdict"] != NO_BUILD
    print(f"{len(passed)} go on to the other programs", flush=True)
    for path, source, mutant, same in passed:
        entry, _ = try_mutant(judge, path, source, mutant, PROGRAMS[1:], same)
        entries.append(entry)
        results.add(entry)
    return entries


def print_table(entries, equivalents):
    counted = [e for e in entries if e["verdict"] != NO_BUILD]
    survivors = [e for e in counted if e["verdict"] in ALIVE]
    for field in ("operator", "file"):
        columns = [*PROGRAMS, "no end", EXPLAINED, "survived"]
        print(f"\n| {field} | mutants | killed | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 3))
        for value in [*sorted({e[field] for e in counted}), "all"]:
            mine = [e for e in counted if value in (e[field], "all")]
            alive = sum(e in survivors for e in mine)
            by = [sum(e["verdict"] == c for e in mine) for c in columns[:-1]]
            print(f"| {value} | {len(mine)} | {len(mine) - alive - by[-1]} | " + " | ".join(map(str, [*by, alive])) + " |")
    print()
    for e in survivors:
        print(f"{e['verdict']}: line {e['line']}, {e['operator']}")
        print(*(f"{key}: {e[key]}" for key in ("file", "before", "old", "new")), "why: ", "", sep="\n")
    wrong = [e for e in counted if e["verdict"] != EXPLAINED and equivalents.explain(e)]
    for e in wrong:
        print(f"an entry of {EQUIVALENT} is wrong, {e['verdict']} notices it: {e['file']}:{e['line']} {e['new']}")
    share = 100 * (1 - len(survivors) / max(1, len(counted)))
    print(f"{len(counted)} mutants, {len(survivors)} survived, {share:.1f} % killed or explained; "
          f"{len(entries) - len(counted)} did not compile; seed {SEED}")
    return share >= 90 and not wrong


def self_test(judge):
    """A dropped barrier must be killed; a renamed variable must not."""
    path = "kernels/cuda/splice.cu"
    source = (COPY / path).read_text()
    wanted = {"a dropped barrier": ("thread].row;\n  __syncthreads();\n", "thread].row;\n", PROGRAMS),
              "a renamed variable": ("const int32_t token = source_N[row];", "const int32_t word = source_N[row], token = word;",
                                     ["survived", "same code"])}
    passed = True
    for what, (old, new, verdicts) in wanted.items():
        if source.count(old) != 1:
            sys.exit(f"the self-test finds {source.count(old)} times, not once, in {path}: {old}")
        (COPY / path).write_text(source.replace(old, new))
        verdict, _ = judge.judge(path, PROGRAMS)
        print(f"{what}: {verdict}")
        passed = passed and verdict in verdicts
    return passed and self_test_of_entries(path, source)


def self_test_of_entries(path, source):
    """An entry fits one mutant; one whose line is gone, or that fits several places, is reported."""
    files = {path: (source, *in_order(path, source))}
    entry = "file: {}\nold: {}\nnew: {}\nwhy: -\n"
    once, twice = "if (row >= rows) return;", "for (int j = 0; j < kRowsAtOnce; ++j)"
    texts = {"an entry": entry.format(path, once, once.replace(">=", ">")),
             "an entry without its line": entry.format(path, once + " // gone", once.replace(">=", ">")),
             "an entry of two places": entry.format(path, twice, twice.replace("<", "<="))}
    found = {what: Equivalents(text, files) for what, text in texts.items()}
    for what, equivalents in found.items():
        print(f"{what}: {len(equivalents.problems)} problems")
    return [len(e.problems) for e in found.values()] == [0, 1, 1]


def main():
    copy_tree()
    judge, results = Judge(), Results()
    only, count = os.environ.get("ONLY", ""), os.environ.get("MUTANTS")
    if only in ("", "self") and not self_test(judge):
        sys.exit("the tool fails its self-test")
    if only == "self":
        return True
    files = {}
    paths = [*glob.glob("kernels/cuda/*.cu", root_dir=LIVE), *glob.glob("kernels/cuda/*.h", root_dir=LIVE),
             *(f"kernels/cuda/{name}" for name in HOST)]
    for path in sorted(paths, key=lambda p: (len(judge.users[p]), p)):  # the quickest to build first
        source = (COPY / path).read_text()
        files[path] = source, *in_order(path, source)
    equivalents = Equivalents(EQUIVALENT.read_text(), files)
    if equivalents.problems:
        sys.exit("\n".join([f"{EQUIVALENT}:", *equivalents.problems]))
    survivors = {Results.name(r) for r in results.old if r["verdict"] in ALIVE}
    total = sum(len(always) + len(drawn) for _, always, drawn in files.values())
    if only and count and count != "all":
        share_of = {path: len(always) + int(count) for path, (_, always, _) in files.items()}
    else:
        share_of = shares(files, total if only or count == "all" else int(count or SAMPLE))
    print(f"{total} mutants in {len(files)} files; {sum(share_of.values()) if not only else 'some'} are tried", flush=True)

    def wanted(place):
        name, lines = os.path.basename(place["file"]), re.fullmatch(r"(.+):(\d+)(?:-(\d+))?", only)
        if lines:
            return lines[1] == name and int(lines[2]) <= place["line"] <= int(lines[3] or lines[2])
        return (only in ("", name, place["operator"]) or (only == "survivors" and Results.name(place) in survivors)
                or (only == "explained" and equivalents.explain(place)))

    return print_table(try_all(judge, results, files, share_of, wanted, equivalents), equivalents)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
