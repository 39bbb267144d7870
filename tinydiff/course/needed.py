"""Which statements of a file a function needs: what gives its names their values, in order."""

import __future__

import ast
import builtins
import dis
from copy import deepcopy
from functools import cached_property

FUTURE = {name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MADE_AT_ONCE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
QUIET = {"check", "display", "guess", "progress", "show"}  # calls that give no name a value
CHANGING = {  # methods that change what they belong to, wherever they are called
    *"add append appendleft clear discard extend extendleft fill insert pop popitem".split(),
    *"popleft put register remove reverse setdefault setflags shuffle sort update".split(),
}
DRAWN_FROM = {"Random", "RandomState", "default_rng", "iter"}  # what they give, each use changes
READS = {"fromfile", "genfromtxt", "load", "loadtxt", "open", "read_bytes", "read_text"}
WRITES = {"dump", "save", "savetxt", "savez", "tofile", "write", "write_bytes", "write_text"}
SETTING = {"filterwarnings", "seed", "seterr", "setrecursionlimit", "simplefilter"}  # of modules
ON_ITS_ARGUMENTS = {  # functions that change what they are given
    *"at copyto delattr fill_diagonal heapify heappop heappush iadd insort next place".split(),
    *"putmask setattr shuffle".split(),
}


PASSES = 100  # through a file, for one answer
MANY, TOO_MANY = 10_000, 300_000  # names looked up for one answer
PROVIDED = {"In", "Out", "_", "__", "___", "display", "exit", "get_ipython", "quit", *dir(builtins)}


class Statement:
    """One statement at the top level of a cell or file, and what it does to names.

    where: str; node: ast node; flags: the compiler's, of `from __future__` above it
    """

    def __init__(self, where, node, flags):
        self.where, self.node, self.flags = where, node, flags
        self.from_star = set()  # names that it imports by `*` from a file that was handed in
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            if all(isinstance(target, ast.Name) for target in node.targets):  # x = 1: in no time
                names, nothing = {target.id for target in node.targets}, set()
                self.parts, self.binds, self.is_plain, self.aliases = [node], names, True, []
                self._uses = nothing, nothing, nothing

    @cached_property
    def code(self):
        """Compile it -> code. Raises SyntaxError, ValueError, RecursionError, MemoryError."""
        flags, node = self.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, self.node
        if isinstance(node, ast.If | ast.For | ast.While | ast.Try | ast.With):
            node = _WithoutChecks().visit(deepcopy(node))
        return compile(ast.Module([node], []), self.where, "exec", flags, True)

    @cached_property
    def _uses(self):
        """List the global names that it loads: at once, later (in functions), and those it sets."""
        early, late, sets, codes = set(), set(), set(), [(self._code_or_none(), True)]
        classes = {n.name for n in ast.walk(self.node) if isinstance(n, ast.ClassDef)}
        inside = lambda code: code.co_name in MADE_AT_ONCE or code.co_name in classes
        while codes:
            code, at_once = codes.pop()
            for part in dis.get_instructions(code) if code else ():
                if part.opname in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
                    (early if at_once else late).add(part.argval)
                elif part.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                    sets.add(part.argval)
            within = [c for c in code.co_consts if hasattr(c, "co_consts")] if code else []
            codes += [(c, at_once and inside(c)) for c in within]
        return early, late, sets

    def _code_or_none(self):
        try:
            return self.code
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None  # running it will say so

    early = property(lambda self: self._uses[0], doc="Names that it needs when it is run.")
    late = property(lambda self: self._uses[1], doc="Names that its functions need when called.")
    sets = property(lambda self: self._uses[2], doc="Names that its functions declare `global`.")

    @cached_property
    def mentions(self):
        """Find all the names in it, at once or in its functions -> set"""
        return self.early | self.late | self.sets | self.binds

    @cached_property
    def is_quiet(self):
        """Say whether it is no more than a call that changes nothing: check(f)"""
        value = getattr(self.node, "value", None)
        is_call = isinstance(self.node, ast.Expr) and isinstance(value, ast.Call)
        return is_call and called(value) in QUIET

    @cached_property
    def parts(self):
        """List the nodes that are run at once, not those within functions."""
        return list(at_once(self.node))

    @cached_property
    def binds(self):
        """Find the names that it gives a value, or may give one -> set"""
        return {name for part in self.parts for name in _names_bound(part)} | self.from_star

    @cached_property
    def is_plain(self):
        """Say whether it calls nothing and changes no object: x = y + 1"""
        doing = (ast.Call, ast.Attribute, ast.Subscript, ast.AugAssign, ast.alias)
        return not any(isinstance(part, doing) for part in self.parts) and not _decorators(
            self.node
        )

    @cached_property
    def is_sure(self):
        """Say whether after it the names that it binds no longer have earlier values -> bool"""
        node = self.node
        if isinstance(node, ast.Assign):
            return all(isinstance(t, ast.Name | ast.Tuple | ast.List) for t in node.targets)
        if isinstance(node, ast.AnnAssign):
            return node.value is not None
        # `import a.b` is none of them: it adds to a
        return isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ImportFrom))

    @cached_property
    def is_star(self):
        """Say whether it may bind any name: `from x import *`"""
        return any(isinstance(p, ast.alias) and p.name == "*" for p in self.parts)

    @cached_property
    def is_script(self):
        """Say whether it runs other text under the names here: %run, exec, globals()"""
        calls = [p for p in self.parts if isinstance(p, ast.Call)]
        return any(
            called(c) in ("exec", "globals", "vars", "locals")
            or (called(c) in ("run_line_magic", "magic") and "run" in ast.unparse(c)[:60])
            for c in calls
        )

    @cached_property
    def is_setting(self):
        """Say whether it sets what holds for all below: sys.path.append(...), np.seterr(...)"""
        if isinstance(self.node, ast.Expr) and isinstance(self.node.value, ast.Call):
            name, first = called(self.node.value), [*self.node.value.args, None][0]
            is_magic = name == "run_line_magic" and isinstance(first, ast.Constant)
            if name in SETTING or (is_magic and first.value in ("env", "set_env")):
                return True
        paths = [p for p in self.parts if isinstance(p, ast.Attribute) and p.attr == "path"]
        of_sys = any(isinstance(p.value, ast.Name) and p.value.id == "sys" for p in paths)
        return of_sys and not isinstance(self.node, (*FUNCTIONS, ast.ClassDef))

    def _strings_if(self, names):
        """List the texts in it, if it calls a function of one of these names -> set

        With them the names of what those functions are given: a file's name may have one.
        """
        calls = [p for p in self.parts if isinstance(p, ast.Call) and called(p) in names]
        texts = [p.value for p in self.parts if isinstance(p, ast.Constant) and _is_text(p.value)]
        return {*texts, *(root(a) for c in calls for a in c.args)} - {None} if calls else set()

    @cached_property
    def read(self):
        """Find the names of the files that it may read -> set"""
        return self._strings_if(READS)

    @cached_property
    def written(self):
        """Find the names of the files that it may write -> set"""
        return self._strings_if(WRITES | {"open"})

    @cached_property
    def changes(self):
        """Find the names whose objects it changes -> set of (name, method or None)"""
        return set(_changed(self.parts))

    @cached_property
    def calls(self):
        """List the functions that it calls for what they do: (name, names of the arguments)"""
        return [
            (part.func.id, {root(a) for a in _arguments(part)} - {None})
            for part in self.parts
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
        ] + [(d.id, set()) for d in _decorators(self.node) if isinstance(d, ast.Name)]

    @cached_property
    def is_call(self):
        """Say whether it holds a call whose result nobody keeps -> bool"""
        return any(isinstance(p, ast.Expr) for p in self.parts) or bool(_decorators(self.node))

    @cached_property
    def aliases(self):
        """List which names it makes stand for the same objects as others, or for parts of them."""
        found = []
        for part in self.parts:
            if isinstance(part, ast.Assign) and (name := root(part.value)):
                found.append(({t.id for t in part.targets if isinstance(t, ast.Name)}, {name}))
            elif isinstance(part, ast.For | ast.comprehension):
                over = {n.id for n in ast.walk(part.iter) if isinstance(n, ast.Name)}
                names = {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
                found.append((names, over))
        return found


def _is_text(value):
    return isinstance(value, str) and len(value) > 1


def _decorators(node):
    return getattr(node, "decorator_list", [])


def _arguments(call):
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def called(call):
    """Name the function that is called, without what it belongs to: ast.Call -> str or None"""
    return getattr(call.func, "id", getattr(call.func, "attr", None))


def at_once(node):
    """Walk what of a statement is run at once, not within the functions that it defines.

    node: ast node -> its parts one by one, itself first
    """
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, (*FUNCTIONS, ast.ClassDef)):
            waiting += part.decorator_list
        elif isinstance(part, ast.comprehension):  # its targets are names of its own
            waiting += [part.iter, *part.ifs]
        elif not isinstance(part, ast.Lambda):
            waiting += reversed(list(ast.iter_child_nodes(part)))


def root(node):
    """Find the name that an expression begins with: `a.b["c"]` -> "a", else None"""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _names_bound(part):
    if isinstance(part, (*FUNCTIONS, ast.ClassDef)):
        yield part.name
    elif isinstance(part, ast.alias) and part.name != "*":
        yield (part.asname or part.name).split(".")[0]
    elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
        yield part.id
    elif isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
        yield part.name
    elif isinstance(part, ast.MatchMapping) and part.rest:
        yield part.rest
    elif isinstance(part, ast.Subscript) and isinstance(part.value, ast.Call):
        if called(part.value) in ("globals", "locals", "vars"):
            yield getattr(part.slice, "value", None)  # globals()["K"] = 1
    elif isinstance(part, ast.Call) and called(part) == "update":
        if isinstance(part.func, ast.Attribute) and isinstance(part.func.value, ast.Call):
            yield from (k.arg for k in part.keywords)  # globals().update(K=1)


def _changed(parts):
    """Find the names whose objects are changed: nodes -> (name, method, or None = by assignment)"""
    for part in parts:
        if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
            yield root(part), None
        if isinstance(part, ast.AugAssign):
            yield root(part.target), None
        if isinstance(part, ast.Expr):
            call = part.value.value if isinstance(part.value, ast.Await) else part.value
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                yield _owner(call), call.func.attr
        if isinstance(part, ast.Call):
            if isinstance(part.func, ast.Attribute) and part.func.attr in CHANGING | SETTING:
                yield _owner(part), part.func.attr
            yield from ((root(k.value), None) for k in part.keywords if k.arg == "out")
            if called(part) in ON_ITS_ARGUMENTS:
                yield from ((root(a), None) for a in part.args[:2])
        for decorator in _decorators(part):
            named = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(named, ast.Attribute):
                yield root(named), "register"


def _owner(call):
    """Find whose method is called, also through results: `a.b().c()` -> "a" """
    node = call
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


class Tangled(Exception):
    """So many names depend on each other that it would take minutes to find out which."""


class _WithoutChecks(ast.NodeTransformer):
    """Takes `check(...)` and the like out of a block that is run for what else it holds."""

    def visit_Expr(self, node):
        is_quiet = isinstance(node.value, ast.Call) and called(node.value) in QUIET
        return ast.copy_location(ast.Pass(), node) if is_quiet else node

    def _leave(self, node):
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _leave


class Slice:
    """The statements of a file by what they do to names.

    statements: list of Statements in the file's order
    """

    def __init__(self, statements):
        self.statements, self.binders, self.imported = statements, {}, set()
        others = set()
        for k, statement in enumerate(statements):
            is_import = isinstance(statement.node, ast.Import | ast.ImportFrom)
            (self.imported if is_import else others).update(statement.binds)
            for name in statement.binds:
                self.binders.setdefault(name, []).append(k)
        self.imported -= others
        self._effects, self._same = {}, self._alias_classes()
        classes = {s.node.name for s in statements if isinstance(s.node, ast.ClassDef)}
        made = lambda s: isinstance(s.node, ast.Assign) and isinstance(s.node.value, ast.Call)
        makers = DRAWN_FROM | classes
        own = [s.binds for s in statements if made(s) and called(s.node.value) in makers]
        self._used_up = set().union(*own)  # names of objects that any use may change

    def _alias_classes(self):
        """Group the names that may stand for the same object: -> dict of name to set of names"""
        same = {}
        for names, others in (pair for s in self.statements for pair in s.aliases):
            names = names - self.imported
            others = (others - self.imported).intersection(self.binders)
            tied = [*names, *others] if names and others else []
            for name in tied[1:]:
                few, many = sorted((same.get(n, {n}) for n in (tied[0], name)), key=len)
                if few is not many:  # each name moves into a set twice as large: only a few times
                    many |= few
                    same |= dict.fromkeys([*few, tied[0], name], many)
        return same

    def touches(self, k):
        """Find the names that statement k gives a value or whose object it changes -> set"""
        statement = self.statements[k]
        if statement.is_plain:
            return statement.binds
        changed = {name for name, how in statement.changes if self._changes(name, how)}
        for name, arguments in statement.calls:
            sets, inside, on_arguments = self._effects_of(name)
            changed |= sets
            if statement.is_call:
                changed |= inside | (arguments if on_arguments else set())
                changed |= self._made_with(name)
        changed |= self._used_up & {_owner(p) for p in statement.parts if isinstance(p, ast.Call)}
        groups = [self._same.get(name, ()) for name in changed]
        return statement.binds.union(changed, *groups)

    def _made_with(self, name):
        """Find the names that came about together with one: `get, put = make()` -> set"""
        made = [self.statements[k] for k in self.binders.get(name, ())]
        calls = [s for s in made if isinstance(s.node, ast.Assign)]
        return {name}.union(*(s.binds for s in calls)) if calls else set()

    def _changes(self, name, how):
        """Say whether a method changes its object; of what was imported only some do -> bool"""
        return name not in self.imported or how is None or how in CHANGING | SETTING

    def _effects_of(self, name):
        """Find out what a function of the file does to other names.

        name: str -> (names that it sets, names whose objects it changes, are arguments changed)
        """
        if name not in self._effects:
            self._effects[name] = (set(), set(), False)  # for functions that call each other
            sets, inside, on_arguments = set(), set(), False
            for k in self.binders.get(name, ()):
                statement = self.statements[k]
                if not isinstance(statement.node, FUNCTIONS):
                    continue
                parts = list(ast.walk(statement.node))
                changed = {n for n, how in _changed(parts) if self._changes(n, how)}
                own = {part.arg for part in parts if isinstance(part, ast.arg)}
                sets |= statement.sets
                inside |= (changed & statement.late) - own
                on_arguments |= bool(changed & own)
                for other in statement.late & set(self.binders):
                    found = self._effects_of(other)
                    sets, inside = sets | found[0], inside | found[1]
            self._effects[name] = (sets, inside, on_arguments)
        return self._effects[name]

    @cached_property
    def reaching(self):
        """Find the names behind which functions may stand that need something when called -> set"""
        users, waiting = {}, []
        for k, statement in enumerate(self.statements):
            for name in statement.early | statement.late:
                users.setdefault(name, []).append(k)
            waiting += statement.binds if statement.late else []
        found = set()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [n for k in users.get(name, ()) for n in self.statements[k].binds]
        return found

    def late(self, names, known):
        """Find what functions behind these names need when they are called, and what that needs.

        names: iterable of str; known: set of k, the statements that are looked at -> set
        """
        found, seen, waiting = set(), set(), list(names)
        while waiting:
            name = waiting.pop()
            if name in seen or (self.work > MANY and name not in self.reaching):
                continue
            seen.add(name)
            self.work += 1
            if self.work > TOO_MANY:
                raise Tangled
            for k in known.intersection(self.binders.get(name, ())):
                statement = self.statements[k]
                found |= statement.late
                waiting += statement.late | statement.early
        return found

    def before(self, name, counting, end, without):
        """Choose the statements that a name needs, in the order in which they are run.

        name: str; counting: set of k, the statements that give it its meaning; end: what stands
        from this k on is not run, but for names that only it binds; without: set of k
        -> list of k
        """
        self.work = 0
        try:
            return self._chosen(name, counting, end, without)
        except (Tangled, RecursionError):  # hundreds of thousands of ties: then all that is above
            return [k for k in range(end) if k not in without]

    def _chosen(self, name, counting, end, without):
        """As `before`. Raises Tangled or RecursionError."""
        self._effects = {name: (set(), set(), False)}  # what it does itself when it is called
        touched = [self.touches(k) for k in range(len(self.statements))]
        above = set().union({name}, *(self.statements[k].binds for k in range(end)))
        for k, statement in enumerate(self.statements):
            if k >= end:
                touched[k] = touched[k] - above
            if k not in counting and name in statement.binds:
                touched[k] = touched[k] - {name}
        roots, stars, known = {name}, False, set(counting)
        for _ in range(PASSES):
            kept, unbound = self._backwards(roots, touched, end, without, stars, known)
            if not kept <= known:  # their functions may need more
                known |= kept
                continue
            bound = set().union(*(touched[k] for k in kept))
            missing = {n for n in unbound - bound if n not in PROVIDED}
            more = missing & set().union(*(t for k, t in enumerate(touched) if k not in without))
            if not more and (stars or not missing):
                return self._in_order(kept)
            roots, stars = roots | self._all_behind(more), stars or not more
        raise Tangled

    def around(self, name, chosen, end, without):
        """Add to what a name needs all that has to do with what it uses, and may have changed it.

        name, end, without: as in `before`; chosen: list of k, what that found -> list of k
        """
        apart = self.imported | PROVIDED | {name}
        users, live, kept = {}, self._all_behind({name}) - apart, set(chosen)
        for k, statement in enumerate(self.statements[:end]):
            if k not in without and name not in statement.binds and not statement.is_quiet:
                for used in statement.mentions - apart:
                    users.setdefault(used, []).append(k)
        waiting = list(live)
        while waiting:
            for k in users.pop(waiting.pop(), ()):
                kept.add(k)
                waiting += self.statements[k].binds
        behind = self._all_behind(set().union(*(self.statements[k].mentions for k in kept)))
        for k, statement in enumerate(self.statements[:end]):
            if k not in without and name not in statement.binds and statement.binds & behind:
                kept.add(k)
        try:
            self.work = 0
            return self._in_order(kept)
        except (Tangled, RecursionError):
            return chosen

    def _all_behind(self, names):
        """Find all that names depend on, themselves included: set -> set"""
        found, waiting = set(), list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                needing = [self.statements[k] for k in self.binders.get(name, ())]
                waiting += [n for s in needing for n in s.early | s.late if n in self.binders]
        return found

    def _backwards(self, roots, touched, end, without, stars, known):
        """Go through the file from its end, and keep what gives a name that is needed below.

        touched: list of sets of names, for each statement; known: set of k, those whose functions
        may be called -> set of k, names that nothing above gives
        """
        live, kept, files = roots | self.late(roots, known), set(), set()
        for k in reversed(range(len(self.statements))):
            statement = self.statements[k]
            if k in without or not (
                touched[k] & live or self._is_wanted_anyway(statement, k < end, stars, files)
            ):
                continue
            kept.add(k)
            files |= statement.read
            if statement.is_sure:
                live = live - (statement.binds & touched[k])
            live |= statement.early | self.late(statement.early, known)
        return kept, live

    def _is_wanted_anyway(self, statement, is_above, stars, files):
        """Say whether a statement has to be run whatever names are needed: -> bool

        stars: is a name needed that only such statements may give; files: names of files that are
        read below
        """
        if statement.is_plain:
            return False
        any_name = (statement.is_star and (is_above or stars)) or (statement.is_script and stars)
        return any_name or statement.is_setting or bool(files and statement.written & files)

    def _in_order(self, kept):
        """Sort statements as the file does, but first what they need that stands only below."""
        first, order, done = {}, [], set()
        for k in sorted(kept, reverse=True):
            first |= dict.fromkeys(self.statements[k].binds, k)

        def put(k):
            if k in done:
                return
            done.add(k)
            early = self.statements[k].early
            for name in sorted(early | self.late(early, kept)):
                if first.get(name, -1) > k:
                    put(first[name])
            order.append(k)

        for k in sorted(kept):
            put(k)
        return order
