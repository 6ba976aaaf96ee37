"""The Python interface: a whole run, or unlearning, audits and comparisons of your own models.

run(overrides)                   a run, as `advunlearn run` does it             api/running.py
unlearn(model, ...)              unlearning of a model                          api/unlearning.py
audit(model, ...)                attacks on a model                             api/auditing.py
compare(original=, ...)          what a run measures, for models of your own    api/comparing.py
"""

from __future__ import annotations

from advunlearn.api.auditing import audit
from advunlearn.api.comparing import compare
from advunlearn.api.running import run
from advunlearn.api.unlearning import UnlearnedModel, unlearn
from advunlearn.report.run.result import Result

__all__ = ["Result", "UnlearnedModel", "audit", "compare", "run", "unlearn"]
