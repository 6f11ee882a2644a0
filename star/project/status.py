"""Where a project stands: rows, labels, curve, budget, and what to do next."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

from star.active_learning.drawn import estimated
from star.active_learning.open_query import Query
from star.active_learning.people import Decided
from star.errors import listed
from star.project.project import Project
from star.run_files import JOURNAL

SETTLING = "settle: star annotate, Disagreements, or final=true beside a label of a file"
POINT = ("round", "labeled", "accuracy", "accuracy_stderr")


def status(
    project: Project, decided: Decided | None = None, query: Query | None = None
) -> dict[str, Any]:
    """Return all that is told, ready for JSON.

    Args:
        project: Whose.
        decided: What the decisions come to, and
        query: what people are asked; ``None``: now.

    Raises:
        InputError: The project is damaged.
    """
    found, run = decided or project.decided(), project.run
    query = query or project.query(found)
    answers = found.answers
    labels = Counter(a.gold for a in answers.values() if a is not None)
    names = project.data.task.labels
    rounds = [run.metrics(t) for t in range(run.complete_rounds())]
    task, how = project.data.task, project.config.evaluation
    estimates = [estimated(run, task, how, answers, t) for t in range(len(rounds))]
    tested = (
        {e.index for e in project.data.test.examples} if not project.data.test.answers else set()
    )
    labelled = sum(labels.values())
    budget = project.config.annotation.budget
    return {
        "rows": len(project.items),
        "labelled": labelled,
        "of_them_test": sum(answers.get(i) is not None for i in tested),
        "set_aside": sum(answer is None for answer in answers.values()),
        "conflicts": [project.ids[i] for i in found.conflicts],
        "decisions": found.count,
        "by_class": {name: labels[name] for name in names} if names else None,
        "test_rows": len(project.data.test),
        "test_given": bool(project.data.test.answers),
        "open": len(query.missing),
        "needed": query.short,
        "for": query.purpose,
        "rounds": project.config.pool.rounds,
        "curve": [{key: m[key] for key in POINT} for m in rounds],
        "random_share": [estimate for estimate in estimates if estimate is not None],
        "finished": run.finished,
        "budget": budget,
        "budget_left": None if budget is None else max(0, budget - labelled),
        "next": following(project, query.short),
    }


def following(project: Project, short: int) -> str:
    """Return the command that goes on; ``short``: labels that are needed before."""
    place = shlex.quote(str(project.path))
    if project.run.finished:
        return f'star predict {place} "a text"'
    if short:
        return f"star query {place} -o next.jsonl, fill in label, star label {place} next.jsonl"
    return f"star train {place}"


def missing(project: Project) -> str:
    """Return in a line what is missing before the next training."""
    query = project.query()
    labels = "1 label is" if query.short == 1 else f"{query.short} labels are"
    place = shlex.quote(str(project.path))
    return (
        f"{labels} missing before {query.purpose}: star query {place} -o next.jsonl and star label "
        f"{place} next.jsonl"
    )


def text(told: dict[str, Any]) -> str:
    """Return a status for people, a line each."""
    tested = f"{told['test_rows']} for the test, never trained on"
    lines = [
        f"rows        {told['rows']}, {'beside' if told['test_given'] else 'of'} them {tested}",
        f"labelled    {told['labelled']} ({told['of_them_test']} of the test)",
        f"set aside   {told['set_aside']} (skipped, unsure, no such label)",
        f"conflicts   {len(told['conflicts'])}"
        + (f" (id {listed(told['conflicts'][:5])}); {SETTLING}" if told["conflicts"] else ""),
        f"open        {told['open']}, {told['needed']} of them needed before {told['for']}",
    ]
    if told["by_class"] is not None:
        lines.insert(2, f"by class    {', '.join(f'{k} {v}' for k, v in told['by_class'].items())}")
    if told["budget"] is not None:
        lines.append(f"budget      {told['budget']} labels, {told['budget_left']} left")
    shares = {
        e["round"]: f"; {e['right']} of {e['rows']} unlabelled rows drawn at random are right: "
        f"{e['low']:.2f} to {e['high']:.2f}"
        for e in told["random_share"]
    }
    lines += [
        f"round {p['round']:<5} {p['labeled']} labels, accuracy {p['accuracy']:.3f} ± "
        f"{p['accuracy_stderr']:.3f}{shares.get(p['round'], '')}"
        for p in told["curve"]
    ]
    if told["finished"]:
        lines.append(f"finished    {_end(told)}")
    return "\n".join([*(line for line in lines), f"next        {told['next']}"])


def _end(told: dict[str, Any]) -> str:
    """Return why a project is finished, and the way on."""
    done = len(told["curve"])
    if done < told["rounds"]:
        return f"no row is left to label after {done} of {told['rounds']} rounds"
    return (
        f"all {done} rounds (pool.rounds) are done; to go on, star init another folder with the "
        f"same --data and settings and pool.rounds={2 * done}, and copy {JOURNAL} into it"
    )
