"""What the operator of a site is shown of a study."""

from dataclasses import replace

from clients.limits.notice import LONGEST, changed_settings, describe_study
from fedbus.settings.load import HOSPITALS_PRESET, build_settings, load_settings
from fedbus.settings.schema import Settings
from fedbus.transport.messages import Instruction


def received(settings: Settings) -> Settings:
    """The settings as a site receives them."""
    return Instruction.from_config(Instruction(settings, 0, ()).to_config()).settings


def test_exactly_what_differs_from_the_defaults_is_shown():
    preset = load_settings(HOSPITALS_PRESET)
    found = changed_settings(received(preset))
    defaults = build_settings({}, "the tests")
    assert found.keys() == {
        "arms", "image-size", "rounds", "local-epochs", "learning-rate", "optimiser-state", "balance", "batches",
        "batch-norm", "missing-classes", "keep",
    }  # fmt: skip
    for key, (value, default) in found.items():
        name = key.replace("-", "_")
        assert getattr(preset, name) != getattr(defaults, name)
        assert value == json_of(getattr(preset, name))
        assert default == json_of(getattr(defaults, name))


def json_of(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(json_of(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_the_line_names_the_study_and_its_settings():
    settings = received(build_settings({"rounds": 36, "model": "resnet18"}, "the tests"))
    instruction = Instruction(settings, 3, (), title="spring-fedavg-3")
    assert describe_study(instruction) == (
        'study spring-fedavg-3, seed 3: model = "resnet18" (default "resnetv2_50"), rounds = 36 (default 12)'
    )
    plain = replace(instruction, settings=received(build_settings({}, "the tests")))
    assert describe_study(plain) == "study spring-fedavg-3, seed 3: all settings have their defaults"


def test_no_value_can_act_on_a_terminal_or_fill_it():
    arms = [f"fed{name}" for name in ("avg", "prox", "avgm", "adam", "yogi", "adagrad", "median", "trimmedavg")]
    settings = build_settings({"arms": arms, "seeds": list(range(500))}, "the tests")
    text = describe_study(Instruction(settings.model_copy(update={"model": "a\x1b[2J\u202e\nb"}), 0, ()))
    assert text.isprintable()
    assert text.isascii() or set(text) - {"…"} <= set(map(chr, range(32, 127)))
    assert len(text) < 5 * LONGEST
