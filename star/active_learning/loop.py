"""The algorithm: train on what is labelled, test, score the rest, label K more, repeat.

Paper (arXiv 2403.01165), Algorithm 1, each round: infer on the unlabelled pool with the current
model → query the top K by dynamic uncertainty → label → add → train → next. A round is written
whole or not at all, every draw comes from a stream named by seed, purpose and round, and every
round starts from a fresh adapter: so a run that was interrupted goes on after its last complete
round and ends in the same numbers as one that was not.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from star.active_learning.cold_start import cold_start
from star.active_learning.rounds import new_round, write_result
from star.active_learning.run_folder import RunFolder
from star.active_learning.setup import prepare, start
from star.active_learning.starting import nothing_to_do
from star.active_learning.trackers import Trackers
from star.config import Config
from star.data.loading import TaskData
from star.models import distributed, peers


def run(config: Config, *, rows: TaskData | None = None) -> Path:
    """Run active learning to its end, or on from where it stopped; return the run folder.

    Args:
        config: Of the run.
        rows: What ``tasks.load`` gives for it; ``None`` = they are loaded here.

    Raises:
        InputError: Anything the user can mend; complete rounds stay as they are.
        ProcessLost: Another process of the job died; likewise.
    """
    with (
        peers.together(),
        RunFolder.open(config, distributed.state()) as folder,
        Trackers(config, folder) as trackers,
    ):
        if folder.finished:
            return nothing_to_do(folder, config)
        pool, oracle, learner = prepare(config, folder, rows)  # D_U; its answers; M_0
        held_out, first = folder.initial(pool, config, partial(cold_start, learner))
        pool.hold_out(oracle.label(held_out))
        pool.add(oracle.label(first))  # D_L
        start(learner, pool, oracle)  # ũ_base
        complete = folder.complete_rounds()
        for t in range(learner.rounds):
            trackers.update()
            last = t == learner.rounds - 1 or not pool.unlabelled
            if t < complete:  # an interrupted run goes on behind it
                answers = oracle.label([] if last else folder.stored_query(t, pool))
            else:
                with learner.fresh_adapter(t), new_round(folder, learner, pool, t) as round_:
                    round_.training = learner.train(pool, t)  # B ← B − γ·(g + βB)
                    round_.test = learner.evaluate(pool, t)
                    if not last:
                        round_.query = learner.query(pool, t)  # λ(t)·ũ_base + (1 − λ(t))·ũ_full
                        answers = oracle.label(round_.query.indices)
                        round_.bought = learner.answer(answers)  # before it is trained on them
            if last:
                break
            pool.add(answers)  # D_L ← D_L ∪ K, D_U ← D_U ∖ K
        write_result(folder, config)
        return folder.path
