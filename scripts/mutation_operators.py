"""The mutants of one CUDA source file: every place where an operator of the list below applies.

The operators read tokens, not C++: some of what they write does not compile, which says nothing about the tests, so
scripts/mutate.py draws another. Places that only a GPU's compiler sees (bounds of registers) are left out.
"""
import re
from typing import NamedTuple

OPERATORS = {
    "barrier": "a barrier dropped",
    "wait": "a wait for asynchronous copies or products weakened by one or dropped; a commit or fence of them, an arrival at a barrier "
            "of their ring or a wait there dropped; a barrier of a cluster, or a wait for another block's count or its release, dropped",
    "bound": "begin, end or comparison of a loop off by one",
    "shared": "a shared array shorter by one element",
    "atomic": "an atomic addition done as a plain one",
    "mask": "a limit outside loops off by one; a mask of lanes without its last lane; a test inverted",
    "swap": "operands of - or /, or neighbouring arguments, swapped; a name taken for its partner",
    "scale": "a factor or divisor dropped",
    "index": "a subscript off by one; / for % and % for /",
    "sign": "+ for - and - for +",
    "constant": "a number changed",
    "statement": "a call or an assignment dropped",
}

# Interchangeable names of the same kind.
PARTNERS = [("q_NqD", "k_NkD"), ("k_NkD", "v_NkD"), ("q_E", "k_E"), ("dk", "dv"), ("dk_E", "dv_E"), ("lse", "delta"),
            ("lse_SHN", "delta_SHN"), ("dout_NqD", "out_NqD"), ("fmaxf", "fminf"), ("min", "max"), ("mean", "rstd"),
            ("weight", "bias"), ("dweight_D", "dbias_D"), ("low", "high"), ("first", "second"), ("at", "kv_at"),
            ("beta1", "beta2"), ("rest1", "rest2"), ("rows", "cols"), ("heads", "kv_heads"), ("gate", "up")]
PARTNER_OF = {}
for one, other in PARTNERS:
    PARTNER_OF.setdefault(one, other)
    PARTNER_OF.setdefault(other, one)


class Mutant(NamedTuple):
    operator: str
    begin: int  # of the text that is replaced
    end: int
    text: str  # the replacement


class Token(NamedTuple):
    text: str
    begin: int
    end: int
    binary: bool  # an operator with spaces around it


TOKEN = re.compile(r"[A-Za-z_]\w*|0x[0-9a-fA-F]+u?|\d+\.\d*(?:e-?\d+)?f?|\.\d+f?|\d+u?|->|::|<<|\+\+|--|[-+*/%&|^]=|[<>=!]=|&&|\|\||\S")
COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)
LEFT_OUT = re.compile(r"^[ \t]*(?:#|using\b|namespace\b|static_assert\b|constexpr int kBlocks\b)[^\n]*|__launch_bounds__\([^\n]*?\)(?=\n)", re.M)
TEMPLATE = re.compile(r"\btemplate <[^{};()]*?>(?=\n| )")

PRECEDENCE = {"*": 5, "/": 5, "%": 5, "+": 4, "-": 4, "<<": 3, ">>": 3, "<": 2, ">": 2, "<=": 2, ">=": 2, "==": 1, "!=": 1,
              "&": 0, "^": 0, "|": 0, "&&": -1, "||": -2}
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
ENDS = {",", ";", "?", ":", "=", "return", "+=", "-=", "*=", "/=", "|=", "&=", "^=", "case", "{", "}"}
TYPES = {"float", "double", "int", "unsigned", "bool", "int32_t", "uint32_t", "int64_t", "const"}
RING = re.compile(r"(?:gpu::|\w+\.)?(?:arrive|arrive_expecting|arrive_in_cluster|release|release_to_all|wait_barrier|wait_until_empty|"
                  r"wait_until_full|wait_for_last_releases|sync_cluster|fence_async_proxy|fence_barrier_init|await_count|release_count|"
                  r"pass_on)\(")
ASYNCHRONOUS = re.compile(r"cp_async|wgmma_(?:fence|commit|wait)\b")  # mutants of synchronisation
NOT_CALLS = {"if", "for", "while", "switch", "return", "sizeof", "decltype", "GPU_SHARED", "alignas", "operator"}


def blank(text, pattern):
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def tokens_of(source):
    code = blank(blank(blank(source, COMMENT), LEFT_OUT), TEMPLATE)
    tokens = []
    for found in TOKEN.finditer(code):
        before, after = code[found.start() - 1], code[found.end():found.end() + 1]
        tokens.append(Token(found.group(), found.start(), found.end(), before.isspace() and after.isspace()))
    return tokens


class File:
    def __init__(self, source):
        self.source = source
        self.tokens = tokens_of(source)
        self.partner = self.match_brackets()
        self.for_headers = self.find_for_headers()
        self.sizes = self.find_sizes()
        self.shared_sizes = {j for i, token in enumerate(self.tokens) if token.text == "GPU_SHARED"
                             for j in range(i, self.partner[i + 1] + 1)}
        self.mutants = []

    # A template's angle brackets have no space before them, a comparison has.
    def is_angle(self, token, text):
        return token.text == text and not token.binary

    def match_brackets(self):
        partner, stack = {}, []
        for i, token in enumerate(self.tokens):
            if token.text in "([{" or self.is_angle(token, "<"):
                stack.append(i)
            elif token.text in ")]}" or self.is_angle(token, ">"):
                if stack and CLOSING[self.tokens[stack[-1]].text] == token.text:
                    partner[i] = stack.pop()
                    partner[partner[i]] = i
        return partner

    def find_for_headers(self):
        headers = []
        for i, token in enumerate(self.tokens):
            if token.text == "for" and i + 1 in self.partner:
                inside = range(i + 2, self.partner[i + 1])
                if any(self.tokens[j].text == ";" for j in inside):
                    headers.append(inside)
        return headers

    def find_sizes(self):
        """The tokens in sizes of declared arrays, which the compiler compares."""
        sizes, begins = set(), 0
        for i, token in enumerate(self.tokens):
            if token.text in ";{}":
                begins = i + 1
            if token.text != "[" or i not in self.partner:
                continue
            before = self.tokens[i - 1].text
            of_reference = before == ")" and self.tokens[self.partner[i - 1] + 1].text == "&"
            declares = self.tokens[begins].text in TYPES and not any(t.text in "=(" for t in self.tokens[begins:i])
            if of_reference or declares or (before == "]" and i - 1 in sizes):
                sizes.update(range(i, self.partner[i] + 1))
        return sizes

    def text(self, first, last):
        """The source of tokens first to last, both included."""
        return self.source[self.tokens[first].begin:self.tokens[last].end]

    def add(self, operator, first, last, text):
        begin, end = self.tokens[first].begin, self.tokens[last].end
        if self.source[begin:end] != text:
            self.mutants.append(Mutant(operator, begin, end, text))

    def ends_operand(self, i, precedence, equal_ends):
        token = self.tokens[i]
        if (token.text in ENDS and i not in self.partner) or (i in self.partner and token.text in "([{" and self.partner[i] > i):
            return True
        level = PRECEDENCE.get(token.text) if token.binary else None
        return level is not None and (level < precedence or (equal_ends and level == precedence))

    def is_block(self, opening):
        """Whether a bracket opens a block, not an initialiser."""
        return self.tokens[opening].text == "{" and self.tokens[opening].begin > self.tokens[opening - 1].end

    def operands(self, i):
        """First and last tokens of the operands of the binary operator at i."""
        precedence = PRECEDENCE[self.tokens[i].text]
        first = i
        while first > 0:
            j = first - 1
            if j in self.partner and self.partner[j] < j and not self.is_block(self.partner[j]):
                first = self.partner[j]
            elif self.ends_operand(j, precedence, False):
                break
            else:
                first = j
        last = i
        while last + 1 < len(self.tokens):
            j = last + 1
            if j in self.partner and self.partner[j] > j and not self.is_block(j):
                last = self.partner[j]
            elif j in self.partner or self.ends_operand(j, precedence, True):
                break
            else:
                last = j
        return first, i - 1, i + 1, last

    def arguments(self, opening):
        """(first, last) tokens of each argument between the brackets that begin at `opening`."""
        result, first, i, closing = [], opening + 1, opening + 1, self.partner[opening]
        while i < closing:
            if i in self.partner and self.partner[i] > i:
                i = self.partner[i]
            elif self.tokens[i].text == ",":
                result.append((first, i - 1))
                first = i + 1
            i += 1
        if first < closing:
            result.append((first, closing - 1))
        return result

    def is_declaration(self, first, last):
        """Whether an argument declares a parameter: a name that follows a type."""
        for i in range(first + 1, last + 1):
            before = self.tokens[i - 1]
            name = re.match(r"[A-Za-z_]", self.tokens[i].text)
            if name and (re.match(r"[A-Za-z_]", before.text) or (before.text in "*&>" and not before.binary and
                                                                 self.tokens[i].begin > before.end)):
                return True
        return False


def in_for(file, i):
    return next((header for header in file.for_headers if i in header), None)


def synchronisation(file, i):
    name, call_end = file.tokens[i].text, file.partner.get(i + 1)
    if name in ("__syncthreads", "__syncwarp") and call_end:
        file.add("barrier", i, call_end, "")
    if name == "__syncthreads_or" and call_end:
        file.add("barrier", i, call_end, "(" + file.text(i + 2, call_end - 1) + ") != 0")
    if name in ("cp_async_commit", "wgmma_commit", "wgmma_fence") and call_end:
        file.add("wait", i - 2, call_end, "")
    if name in ("cp_async_wait", "wgmma_wait"):
        pending = file.text(i + 2, call_end - 1)  # call_end: of the template's argument
        file.add("wait", i + 2, call_end - 1, str(int(pending) + 1) if pending.isdigit() else f"{pending} + 1")
        file.add("wait", i - 2, file.partner[call_end + 1], "")
    if name == "atomicAdd" and call_end:
        (first, last), (value, value_end) = file.arguments(i + 1)
        file.add("atomic", i, call_end, f"*({file.text(first, last)}) += {file.text(value, value_end)}")
    if name == "kFullWarp":
        file.add("mask", i, i, "kFullWarp >> 1")


def shared_memory(file, i):
    name = file.tokens[i].text
    if i in file.shared_sizes and name == "[":
        file.add("shared", i, file.partner[i], f"[{file.text(i + 1, file.partner[i] - 1)} - 1]")
    if name == "take" and file.tokens[i + 1].text == "<":
        opening = file.partner[i + 1] + 1
        inside = file.text(opening + 1, file.partner[opening] - 1)
        file.add("shared", opening, file.partner[opening], f"({inside} - 1)")
    if name == "shared_bytes" and file.tokens[i + 1].text == "=":
        last = i + 2
        while file.tokens[last + 1].text not in (",", "}", ";"):
            last = file.partner.get(last + 1, last + 1)
        file.add("shared", i + 2, last, file.text(i + 2, last) + " - 4")


OFF_BY_ONE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


def comparisons(file, i):
    token, header = file.tokens[i], in_for(file, i)
    if token.binary and token.text in OFF_BY_ONE:
        operator = "bound" if header else "mask"
        file.add(operator, i, i, OFF_BY_ONE[token.text])
        _, _, right, last = file.operands(i)
        file.add(operator, right, last, file.text(right, last) + " - 1")
    if token.binary and token.text in ("==", "!="):
        file.add("mask", i, i, "!=" if token.text == "==" else "==")
    if token.binary and token.text in ("&&", "||"):
        file.add("mask", i, i, "||" if token.text == "&&" else "&&")
    if token.text == "!" and not token.binary:
        file.add("mask", i, i, "")
    if token.text == "if" and i + 1 in file.partner:
        file.add("mask", i + 1, file.partner[i + 1], f"(!{file.text(i + 1, file.partner[i + 1])})")
    if header and token.text == "=":
        last = i
        while file.tokens[last + 1].text not in (";", ","):
            last = file.partner.get(last + 1, last + 1)
        file.add("bound", i + 1, last, file.text(i + 1, last) + " + 1")


def arithmetic(file, i):
    token = file.tokens[i]
    if token.binary and token.text in ("+", "-", "*", "/", "%"):
        first, left, right, last = file.operands(i)
        a, b = file.text(first, left), file.text(right, last)
        if token.text in "-/":
            file.add("swap", first, last, f"({b}) {token.text} ({a})")
        if token.text in "*/":
            file.add("scale", left + 1, last, "")
        if token.text == "*":
            file.add("scale", first, right - 1, "")
        if token.text in "/%":
            file.add("index", i, i, "%" if token.text == "/" else "/")
        if token.text in "+-":
            file.add("sign", i, i, "-" if token.text == "+" else "+")
    if token.text in ("+=", "-="):
        if not in_for(file, i):
            file.add("sign", i, i, "-=" if token.text == "+=" else "+=")


def names_and_arguments(file, i):
    token = file.tokens[i]
    if token.text in PARTNER_OF and not file.is_declaration(i - 1, i):
        file.add("swap", i, i, PARTNER_OF[token.text])
    called = i > 0 and (re.match(r"[A-Za-z_]", file.tokens[i - 1].text) or file.is_angle(file.tokens[i - 1], ">"))
    if token.text != "(" or not called or file.tokens[i - 1].text in NOT_CALLS or i not in file.partner:
        return
    arguments = file.arguments(i)
    if any(file.is_declaration(first, last) for first, last in arguments):
        return
    for (first, left), (right, last) in zip(arguments, arguments[1:]):
        a, b = file.text(first, left), file.text(right, last)
        if a != b and "{" not in a + b:
            file.add("swap", first, last, f"{b}, {a}")


def subscripts(file, i):
    token = file.tokens[i]
    before = file.tokens[i - 1].text if i else ""
    if token.text != "[" or i not in file.partner or not (re.match(r"[A-Za-z_]", before) or before in "])"):
        return
    inside = file.text(i + 1, file.partner[i] - 1) if file.partner[i] > i + 1 else ""
    if inside and not any(c in inside for c in "&=,"):
        file.add("index", i + 1, file.partner[i] - 1, "0" if inside == "1" else f"({inside}) + 1" if "?" in inside
                 else inside + " + 1")


def constants(file, i):
    token = file.tokens[i]
    before = file.tokens[i - 1].text if i else ""
    begins_loop = before == "=" and in_for(file, i)
    if re.fullmatch(r"\d+", token.text) and before not in ("[", "cp_async_wait") and not begins_loop:
        file.add("constant", i, i, str(int(token.text) + 1))
    if re.fullmatch(r"\d+\.\d*f?", token.text):
        file.add("constant", i, i, "1.0f" if float(token.text.rstrip("f")) == 0 else f"(1.01f * {token.text})")
    if token.text == "INFINITY" and before == "-":
        file.add("constant", i - 1, i, "0.0f")


def statements(file, i):
    """A call or an assignment that is a complete statement."""
    previous = file.tokens[i - 1] if i else None
    starts = previous is None or previous.text in ("{", "}", ";") or (previous.text == ")" and "\n" in
                                                                     file.source[previous.end:file.tokens[i].begin])
    if not starts or not re.match(r"[A-Za-z_*]", file.tokens[i].text) or in_for(file, i):
        return
    last = i
    while last < len(file.tokens) and file.tokens[last].text != ";":
        if file.tokens[last].text in "{}":
            return
        last = file.partner[last] + 1 if file.partner.get(last, 0) > last else last + 1
    if last >= len(file.tokens) or file.is_declaration(i, last - 1):
        return
    call = file.tokens[last - 1].text == ")" and not file.tokens[i].text.startswith(("__sync", "return", "if", "throw"))
    operators = {file.tokens[j].text for j in range(i, last)} & {"=", "+=", "-=", "|=", "*=", "/="}
    if call and RING.match(file.text(i, last)):
        file.add("wait", i, last - 1, "")
    elif (call or operators) and not ASYNCHRONOUS.search(file.text(i, last)):
        file.add("scale" if operators & {"*=", "/="} else "statement", i, last - 1, "")


def mutants_of(source):
    file = File(source)
    for i in range(len(file.tokens)):
        if i in file.sizes:
            continue
        shared_memory(file, i)
        if i in file.shared_sizes:
            continue
        for operator in (synchronisation, comparisons, arithmetic, names_and_arguments, subscripts, constants,
                         statements):
            operator(file, i)
    return list({(m.begin, m.end, m.text): m for m in reversed(file.mutants)}.values())[::-1]
