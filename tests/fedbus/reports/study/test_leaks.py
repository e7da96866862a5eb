"""Claims against truths in the terminal."""

import io

from rich.console import Console

from fedbus.reports import wording
from fedbus.reports.study.leaks import leak_table
from fedbus.reports.study.summary import leaks_of
from tests.study_report_sample import leakage_content, study_content


def test_every_claim_is_above_its_truth_and_their_difference():
    content = leakage_content()
    console = Console(file=io.StringIO(), width=100)
    console.print(leak_table(content))
    lines = console.file.getvalue().splitlines()
    leaks = leaks_of(content)
    assert leaks
    for leak in leaks:
        claim = wording.with_interval(leak["claim"]["auc"])
        first = next(n for n, line in enumerate(lines) if line.split()[:2] == [leak["cell"], "claim"] and claim in line)
        for line, side in zip(lines[first : first + 3], ("claim", "truth", "difference"), strict=True):
            for metric in ("accuracy", "macro_f1", "auc"):
                assert wording.with_interval(leak[side][metric], signed=side == "difference") in line
    assert wording.PHANTOMS in console.file.getvalue()


def test_a_study_without_leaks_has_no_such_table():
    assert leak_table(study_content()) is None
