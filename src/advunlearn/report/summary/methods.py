"""A comparison of methods: how each stands to retraining and to the game, in words."""

from __future__ import annotations

from advunlearn.report.summary.columns import time_over_retraining
from advunlearn.report.summary.runs import Group, Summary
from advunlearn.report.summary.verdict import is_farther, shown

NO_OP = "none"
FLOOR = "retrain"
EXCESS = "over-forgetting"
CONTROLS = {
    NO_OP: "control: no unlearning",
    FLOOR: "control: retrained again, the floor",
    EXCESS: "control: forgets too much",
}
TIED = "tied with retraining"
AUDITOR = "unlearner.auditor._target_"


def notes(summary: Summary) -> list[str]:
    """Return a few words on each group, in their order: a control, tied with retraining, collapsed, too slow."""
    return ["; ".join(_notes(summary, group)) for group in summary.groups]


def floor(summary: Summary, attack: str) -> float | None:
    """Return the largest gap, in size, between a retrained model and one that is retrained again; None without any."""
    again = next((group for group in summary.groups if group.name == FLOOR), None)
    found = [abs(value) for _, value in again.gaps(attack)] if again else []
    return max(found, default=None)


def standings(summary: Summary) -> list[str]:
    """Return the nearest methods, the floor, and for each game and attack what it is behind, tied with and ahead of."""
    if not summary.groups:
        return []
    floors = {attack: floor(summary, attack) for attack in summary.attacks}
    known = [f"{size:.3f} under {attack}" for attack, size in floors.items() if size is not None]
    near = [group for group in summary.groups if group.name not in CONTROLS][:3]
    nearest = "; ".join(_nearest(summary, group) for group in near)
    lines = [f"Nearest to the retrained model, by the largest of its gaps: {nearest}."]
    if known:
        lines.append(
            f"The floor: retrained again, models lie up to {', '.join(known)} from the retrained model. A method "
            "that is not farther on average is tied with retraining."
        )
    games = [group for group in summary.groups if group.runs[0].config.get(AUDITOR)]
    return lines + [_standing(summary, game, attack) for game in games for attack in summary.attacks]


def _nearest(summary: Summary, group: Group) -> str:
    attack = group.widest(summary.attacks)
    return f"{group.name} ({shown(group.size(attack))} under {attack})"


def _standing(summary: Summary, game: Group, attack: str) -> str:
    others = [group for group in summary.groups if group is not game and group.name not in CONTROLS]
    nearer = [group.name for group in others if is_farther(game, group, attack)]
    farther = [group.name for group in others if is_farther(group, game, attack)]
    tied = [group.name for group in others if group.name not in (*nearer, *farther)]
    parts = [
        f"{words} {', '.join(names)}"
        for words, names in (("behind", nearer), ("tied with", tied), ("ahead of", farther))
        if names
    ]
    return f"{game.name} under {attack} ({shown(game.size(attack))} from the retrained model): {'; '.join(parts)}."


def _notes(summary: Summary, group: Group) -> list[str]:
    words = [CONTROLS[group.name]] if group.name in CONTROLS else _ties(summary, group)
    collapsed = sum(bool(run.metrics and run.metrics["trace"].get("collapsed")) for run in group.runs)
    if collapsed:
        words.append(f"collapsed in {collapsed} of {len(group.runs)} runs")
    time = time_over_retraining("unlearning").of(group.runs, "unlearned")
    if time is not None and time.mean >= 1 and group.name != FLOOR:
        words.append("slower than retraining")
    return words


def _ties(summary: Summary, group: Group) -> list[str]:
    """Return that a group is tied with retraining under all attacks, or under which."""
    tied = []
    for attack in summary.attacks:
        own, most = group.size(attack), floor(summary, attack)
        if own is not None and most is not None and own.mean <= most:
            tied.append(attack)
    if tied == list(summary.attacks):
        return [TIED]
    return [f"{TIED} under {', '.join(tied)}"] if tied else []
