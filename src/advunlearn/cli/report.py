"""`advunlearn report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from advunlearn.cli.problems import refuse


def main(arguments: list[str]) -> int:
    """`advunlearn report`: the table and report of one run, or the means of several."""
    parser = argparse.ArgumentParser("advunlearn report", description=main.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or one with runs below it")
    parser.add_argument("--markdown", action="store_true", help="a table for a document")
    options = parser.parse_args(arguments)
    import json

    from advunlearn.report.page import write_report
    from advunlearn.report.summary import find_runs, summarise
    from advunlearn.report.table import comparison_table

    try:
        runs = find_runs(options.runs)
        if len(runs) > 1:
            sys.stdout.write(summarise(runs, style="markdown" if options.markdown else "text") + "\n")
            return 0
        page = write_report(runs[0])
        metrics = json.loads((runs[0] / "metrics.json").read_text())
    except ValueError as error:
        return refuse([str(error)])
    except KeyError as error:
        return refuse([f"{runs[0]}: made by another version of advunlearn, without {error}"])
    sys.stdout.write(f"{comparison_table(metrics)}\n\nreport: {page}\n")
    return 0
