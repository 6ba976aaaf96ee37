"""Stage `attack`: what every attack's scores are worth is decided here, whatever the attack returned."""

from __future__ import annotations

import numpy as np

from advunlearn.config.compose import experiment_from
from advunlearn.config.experiment import LOSS
from advunlearn.stages.attack import score_model
from tests.attacks.test_attack import scene


def test_an_example_outside_the_shadow_models_pool_has_no_score_from_them() -> None:
    experiment = experiment_from(
        ["attack=[threshold,lira,rmia]", "attack.lira.mode=offline", "attack.rmia.mode=offline"]
    )
    target, shadows = scene()
    outside = np.arange(24) % 4 == 0
    shadows.membership[:, outside] = False
    # By themselves the attacks score such an example, from all models instead of half of them: more precisely.
    for name in ("lira", "rmia"):
        assert np.isfinite(experiment.attacks[name].score(target, shadows, np.random.default_rng(0))[""]).all()
    arrays, _ = score_model(experiment, target, shadows)
    for name, scores in arrays.items():
        from_shadows = name.startswith(("lira", "rmia"))
        assert np.isnan(scores).tolist() == (outside if from_shadows else np.zeros(24, bool)).tolist(), name
    assert {LOSS, "threshold", "lira", "lira/stderr", "rmia", "rmia/stderr"} <= arrays.keys()
