"""The pages in docs/reference that are made from the tables, the marks and the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .citations import Place
from .faults import FAULTS, PARTLY
from .faults import LATER as LATER_FAULTS
from .ledger import ROOT, Ledger
from .marks import Mark
from .tables import (
    BY_CONSTRUCTION,
    DEVIATIONS,
    DUTIES,
    HOST,
    LATER,
    OUTSIDE,
    UNNUMBERED,
    UNUSED,
    Statement,
    rules,
    statements,
)

__all__ = ["CONFORMANCE", "RULES", "conformance", "unnumbered_rules"]

CONFORMANCE = ROOT / "docs" / "reference" / "conformance.md"
RULES = ROOT / "docs" / "reference" / "unnumbered-rules.md"
UP = "../.."
VERSIONS = (("5.0", "MQTT 5.0"), ("3.1.1", "MQTT 3.1.1"))


# ---------------------------------------------------------------- unnumbered rules


def unnumbered_rules() -> str:
    """docs/reference/unnumbered-rules.md."""
    lines = [
        "# Unnumbered rules",
        "",
        "Most of what the standard demands has a number, such as MQTT-4.3.3-10, which docstrings "
        "and comments of the",
        "library cite. Some decisive rules have none: they stand in the text, in a comment that is "
        "marked as not",
        "normative, or nowhere. The library cites those as NN-x.y; here is what each of them says, "
        "in our own words.",
        "",
        "Sections are those of MQTT 5.0 unless 3.1.1 is named. *text* is in the normative text, "
        "*comment* in a",
        "comment or a figure, *choice* is left open by the standard or said in two ways, so that "
        "the library had to decide;",
        "the reasons for such decisions are in [Where the standard leaves a choice]"
        "(../explanation/choices.md), and the tests",
        "that prove each rule in [Conformance](conformance.md).",
    ]
    for part, members in _by_area(rules().values()).items():
        lines += ["", f"## {part}", "", "| id | kind, section | rule |", "|---|---|---|"]
        lines += [f"| {rule.key} | {rule.binds} | {rule.words} |" for rule in members]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- conformance


def conformance(ledger: Ledger) -> str:
    """docs/reference/conformance.md."""
    return "\n".join(_conformance(ledger)) + "\n"


def _conformance(ledger: Ledger) -> Iterator[str]:
    yield from (
        "# Conformance",
        "",
        "Each normative statement of MQTT 5.0 and 3.1.1 that a session layer can be held to, in "
        "our own words, with the",
        "place in the code that obeys it and the tests that fail when it does not. The page is "
        "written by",
        "`python -m tests.conformance --write`, and a test holds it to the code and the tests.",
        "",
        "- The same number says different things in the two versions.",
        "- For a statement that binds the client alone, the tests show what the server does with a "
        "client that breaks it; the",
        "  rules of order (4.6.0-1 to -4) are kept by the server itself.",
        "- Where one statement bundles several duties, each has its letter and its test.",
        "- Scenarios with the same marks run over sockets against the example broker and Mosquitto:"
        " [tests/live](../../tests/live);",
        "  what they show is a broker, so they do not count here, nor do tests of the testing kit.",
        "- *code* names where the id is cited; of a 3.1.1 statement, also where the library obeys "
        "the same statement of 5.0.",
        "",
    )
    yield from _summary(ledger)
    for version, title in VERSIONS:
        members = [each for key, each in statements().items() if key.startswith(version)]
        for area, inside in _by_area(members).items():
            proven = [each for each in inside if ledger.wants_proof(each.key)]
            if proven:
                yield from ("", f"## {title}: {area.replace('-', ' ')}")
            for statement in proven:
                yield from _entry(ledger, statement)
    yield from ("", "## Unnumbered rules", "")
    yield "[Unnumbered rules](unnumbered-rules.md) has them in one table, with their sections."
    for statement in rules().values():
        if ledger.wants_proof(statement.key) or statement.key in ledger.proofs:
            yield from _entry(ledger, statement)
    yield from _left_to_others(ledger)
    yield from _deviations()
    yield from _faults(ledger)


def _summary(ledger: Ledger) -> Iterator[str]:
    yield from (
        "| | statements | with tests | the host's | not there yet | freedoms not used | outside |",
        "|---|---|---|---|---|---|---|",
    )
    groups = [
        (title, [each for key, each in statements().items() if key.startswith(version)])
        for version, title in VERSIONS
    ]
    for title, members in [*groups, ("unnumbered", list(rules().values()))]:
        keys = [each.key for each in members]
        proven = [key for key in keys if key in ledger.proofs and ledger.wants_proof(key)]
        comments = [each for each in members if _is_comment(each)]
        outside = [each for each in members if _is_outside(each)]
        yield (
            f"| {title} | {len(keys)} | {len(proven)} | {_count(keys, HOST)} | "
            f"{_count(keys, LATER)} | {_count(keys, UNUSED)} | {len(outside) + len(comments)} |"
        )
    yield from (
        "",
        "*Outside* are codec, authentication and transport, and unnumbered comments, some of which "
        "have tests nevertheless.",
    )


def _is_outside(statement: Statement) -> bool:
    return statement.testable.startswith("no") and statement.key not in LATER


def _is_comment(statement: Statement) -> bool:
    taken = statement.key in LATER or statement.key in HOST or statement.key in UNUSED
    return statement.binds.startswith("comment") and not taken


def _count(keys: Iterable[str], table: Mapping[str, str]) -> int:
    return sum(key in table for key in keys)


def _entry(ledger: Ledger, statement: Statement) -> Iterator[str]:
    key = statement.key
    name = key.split(" ")[-1]
    binds = " *(binds the client)*" if statement.binds == "client" else ""
    yield from ("", f"**{name}**: {statement.words.removesuffix('.')}.{binds}", "")
    places = ledger.places_of(key)
    if places:
        yield f"- code: {_places(places)}"
    if key in BY_CONSTRUCTION:
        yield f"- by construction: {BY_CONSTRUCTION[key]}"
    duties = DUTIES.get(key, {})
    general = [mark for mark in ledger.proofs.get(key, ()) if "(" not in str(mark.argument)]
    if general:
        yield f"- tests: {_tests(general)}"
    for letter, duty in duties.items():
        yield f"- ({letter}) {duty}: {_tests(ledger.duties.get((key, letter), []))}"


def _places(places: list[Place]) -> str:
    by_path: dict[str, list[str]] = {}
    for place in places:
        names = by_path.setdefault(place.path, [])
        if place.name:
            names.append(f"`{place.name}`")
    return "; ".join(
        f"[{path.removesuffix('.py')}]({UP}/mqtt_sessions/{path}) {', '.join(names)}".rstrip()
        for path, names in by_path.items()
    )


def _tests(marks: Iterable[Mark]) -> str:
    by_path: dict[str, dict[str, None]] = {}
    for mark in marks:
        by_path.setdefault(mark.path, {})[f"`{mark.test}`"] = None
    return "; ".join(
        f"[{path.rpartition('/')[2].removesuffix('.py')}]({UP}/tests/{path}) {', '.join(names)}"
        for path, names in by_path.items()
    )


def _left_to_others(ledger: Ledger) -> Iterator[str]:
    known = ledger.statements
    yield from ("", "## The host's duties", "")
    for key, reason in HOST.items():
        yield f"- **{key}**: {known[key].words} *{reason}*"
    yield from (
        "",
        "Of many statements above a part stays with the host, since no I/O is in the library: it "
        "reads and writes packets (or has",
        "`mqtt_sessions.wire` do it), feeds CONNECT once the client has authenticated itself, does "
        "what the actions say in their",
        "order, closes connections, calls `handle_timeout` when the deadline has come, brings "
        "unique client ids for clients that have none,",
        "and counts the bytes of a packet.",
        "",
        "## Not there yet",
        "",
    )
    for reason, keys in _grouped(LATER).items():
        yield f"{reason}"
        yield ""
        yield from (f"- **{key}**: {known[key].words}" for key in keys)
        yield ""
    yield from ("## Freedoms that are not used", "")
    yield from (f"- **{key}**: {known[key].words} *{reason}*" for key, reason in UNUSED.items())
    yield from ("", "## Outside the session layer", "")
    for version, title in VERSIONS:
        outside: dict[str, list[Statement]] = {}
        for statement in (*statements().values(), *UNNUMBERED):
            if statement.key.startswith(version) and _is_outside(statement):
                outside.setdefault(statement.testable, []).append(statement)
        for why, members in outside.items():
            yield f"{title}, {OUTSIDE[why]}:"
            yield ""
            for each in members:
                proofs = ledger.proofs.get(each.key)
                shown = f" (tests: {_tests(proofs)})" if proofs else ""
                yield f"- {each.key.split(' ')[-1]}: {each.words}.{shown}"
            yield ""


def _deviations() -> Iterator[str]:
    yield from (
        "## Deviations",
        "",
        "What a host may choose although it breaks a statement. One is on by default: a queue that "
        "is full drops.",
        "",
        "| option | deviates at | breaks | by default | shown by |",
        "|---|---|---|---|---|",
    )
    for each in DEVIATIONS:
        path, _, test = each.test.partition("::")
        shown = f"[{test}]({UP}/tests/{path})"
        breaks = ", ".join(each.breaks)
        yield f"| `{each.option}` | {each.when} | {breaks} | {each.default} | {shown} |"
    yield from (
        "",
        "Two more come with what they belong to, and will break MQTT-4.5.0-1: keeping only the "
        "last message of a topic, and",
        "subscriptions above QoS 0 that queue nothing while their client is away.",
    )


def _faults(ledger: Ledger) -> Iterator[str]:
    yield from (
        "",
        "## Faults that others shipped",
        "",
        "Found in the sources or the bug reports of other brokers and clients; each is ruled out "
        "by a test.",
        "",
    )
    for number, words in FAULTS.items():
        shown = LATER_FAULTS.get(number) or _tests(ledger.faults.get(number, []))
        rest = f" *{PARTLY[number]}*" if number in PARTLY else ""
        yield f"{number}. {words} {shown}{rest}"


def _by_area(members: Iterable[Statement]) -> dict[str, list[Statement]]:
    found: dict[str, list[Statement]] = {}
    for each in members:
        found.setdefault(each.area, []).append(each)
    return found


def _grouped(table: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, reason in table.items():
        found.setdefault(reason, []).append(key)
    return found
