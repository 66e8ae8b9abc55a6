"""The learning rate falls when the loss does not."""

from tools.training.plateau import LEAST, STEPS, Plateau


def noted(plateau: Plateau, *means: float) -> Plateau:
    for mean in means:
        for _ in range(STEPS):
            plateau.note(mean)
    return plateau


def test_rate_stays_while_the_loss_falls() -> None:
    assert noted(Plateau(2), 5.0, 4.0, 4.0, 3.0, 3.0, 2.0).factor == 1


def test_rate_falls_by_half_when_patience_ends() -> None:
    assert noted(Plateau(2), 5.0, 5.0, 5.0).factor == 0.5
    assert noted(Plateau(2), 5.0, 5.0, 5.0, 5.0, 5.0).factor == 0.25


def test_rate_never_falls_to_nothing() -> None:
    assert noted(Plateau(1), *[1.0] * 20).factor == LEAST


def test_without_patience_the_rate_is_constant() -> None:
    assert noted(Plateau(0), *[1.0] * 9).factor == 1


def test_resumed_run_knows_what_it_was_waiting_for() -> None:
    first, second = noted(Plateau(2), 5.0, 5.0), Plateau(2)
    second.load(first.state())
    assert noted(second, 5.0).factor == 0.5
    second.load({})
    assert second.factor == 0.5
