"""A comparison as JUnit XML, which pipelines show as test results."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from analyzers.compare.types import Comparison
from common.text import printable
from reports.comparison import comparison_summary
from reports.terminal import terminal_text


def to_junit(comparison: Comparison, answers: Mapping[str, tuple[str, str]]) -> str:
    """Return JUnit XML with one case for comparability and one for each question of the gate.

    Args:
        comparison: What to tell.
        answers: By question, such as ``time per iteration``: why it failed, and why it cannot be
            decided; both are empty when it passed.
    """
    blocking = [d.sentence for d in comparison.comparability if d.blocking]
    cases = [
        ("comparable", " ".join(blocking), ""),
        *((name, failed, undecided) for name, (failed, undecided) in answers.items()),
    ]
    suite = ET.Element(
        "testsuite",
        name="whyslow compare",
        tests=str(len(cases)),
        failures=str(sum(bool(failed) for _, failed, _ in cases)),
        errors="0",
        skipped=str(sum(bool(skipped and not failed) for _, failed, skipped in cases)),
    )
    for name, failed, skipped in cases:
        case = ET.SubElement(suite, "testcase", classname="whyslow.compare", name=name)
        if failed:
            ET.SubElement(case, "failure", message=printable(failed))
        elif skipped:
            ET.SubElement(case, "skipped", message=printable(skipped))
    ET.SubElement(suite, "system-out").text = terminal_text(comparison_summary(comparison))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
