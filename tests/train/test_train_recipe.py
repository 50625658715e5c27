"""Recipes: the paper's settings are in them, and what makes no sense is refused by name."""

from pathlib import Path

import pytest

from tpsolve.errors import ArgumentError, FileFormatError, UnknownNameError
from tpsolve.train import RECIPES, Recipe, load_recipe
from tpsolve.train._recipe import parse_settings


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_read_and_written_without_loss(name: str, tmp_path: Path):
    recipe = load_recipe(name, {"seed": 7})
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert load_recipe(str(tmp_path / "recipe.toml")) == recipe


@pytest.mark.parametrize(
    ("name", "activation", "expected"),
    [
        ("cifar10-convnet4", "sign", {"rate": 2.5e-4, "weight_decay": 5e-4, "batch": 64, "epochs": 300, "crop": 4}),
        ("cifar10-convnet8", "sign", {"rate": 1e-3, "weight_decay": 5e-4, "milestones": (200, 250), "flip": True}),
        ("imagenet-alexnet", "sign", {"rate": 1e-4, "weight_decay": 5e-6, "batch": 128, "milestones": (56, 64)}),
        ("imagenet-alexnet", "relu", {"weight_decay": 5e-4, "optimizer": "adam", "epochs": 80}),
        ("imagenet-resnet18", "sign", {"rate": 0.1, "momentum": 0.9, "weight_decay": 5e-7, "batch": 256}),
        ("imagenet-resnet18", "relu", {"weight_decay": 1e-4, "milestones": (30, 60), "epochs": 90}),
    ],
)
def test_settings_of_the_paper(name: str, activation: str, expected: dict):
    recipe = load_recipe(name, {"activation": activation})
    assert {key: getattr(recipe, key) for key in expected} == expected


def test_what_is_given_counts_more_than_what_an_activation_brings():
    recipe = load_recipe("imagenet-alexnet", {"activation": "relu", "weight_decay": 0.5})
    assert recipe.weight_decay == 0.5


def test_rates():
    steps = Recipe(rate=1.0, epochs=300, milestones=(200, 250))
    assert [steps.rate_at(e) for e in (0, 199, 200, 249, 250)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cosine = Recipe(rate=2.0, epochs=10, schedule="cosine")
    assert [cosine.rate_at(e) for e in (0, 5, 10)] == pytest.approx([2, 1, 0])


def test_settings_as_text():
    texts = ["rate=1e-2", "widths=8,9", "milestones=3", "flip=true", "model=convnet4", "epochs=3", "rule=soft-hinge"]
    recipe = load_recipe("digits-mlp", parse_settings(texts))
    assert (recipe.rate, recipe.widths, recipe.milestones, recipe.flip) == (0.01, (8, 9), (3,), True)
    assert (recipe.model, recipe.epochs, recipe.rule) == ("convnet4", 3, "soft-hinge")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (["epocs=3"], UnknownNameError, "'epochs'"),
        (["epochs"], ArgumentError, "NAME=VALUE"),
        (["epochs=three"], ArgumentError, "epochs: got 'three', expected a whole number"),
        (["epochs=2.5"], ArgumentError, "a whole number"),
        (["epochs=0"], ArgumentError, "at least 1"),
        (["flip=1"], ArgumentError, "true or false"),
        (["rate=nan"], ArgumentError, "rate"),
        (["rate=-1"], ArgumentError, "at least 0"),
        (["dropout=1.0"], ArgumentError, "dropout"),
        (["smooth=1.0"], ArgumentError, "smooth: got 1.0, expected a share"),
        (["average=-0.1"], ArgumentError, "average"),
        (["average=1.1"], ArgumentError, "average"),
        (["solver_layers=first"], UnknownNameError, "'all'|'last'|all, last"),
        (["widths=8,x"], ArgumentError, "widths"),
        (["widths=0,"], ArgumentError, "at least 1"),
        (["model=convnet5"], UnknownNameError, "'convnet4'"),
        (["activation=sine"], UnknownNameError, "'sign'"),
        (["seed=99999999999"], ArgumentError, "at most"),
        (["shortcuts=true"], ArgumentError, "shortcuts: got true for mlp, expected one of convnet4"),
        (["weights=quaternary"], UnknownNameError, "'ternary'"),
        (["weights_from=0.5"], ArgumentError, "weights_from: got 0.5, expected 0 where weights stay real"),
        (["weights=binary", "weights_from=0.9", "epochs=2"], ArgumentError, "leaves one of 2 epochs"),
        (["weights=binary", "launch=compile"], ArgumentError, "launch: got 'compile'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_settings_that_make_no_sense(settings: list[str], error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        load_recipe("digits-mlp", parse_settings(settings))


def test_recipes_that_are_not_there(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="'digits-mlp'"):
        load_recipe("digit-mlp")
    with pytest.raises(FileFormatError, match=r"mine\.toml"):
        load_recipe(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("epochs = ", FileFormatError, r"mine\.toml"),
        ("epocs = 3", UnknownNameError, "'epochs'"),
        ("with = 3", FileFormatError, r"such as \[with\.relu\]"),
        ("[with.sing]\nrate = 1.0", UnknownNameError, "'sign'"),
        ('activation = ["sign"]', UnknownNameError, "activation"),
    ],
)
def test_recipes_that_make_no_sense(tmp_path: Path, text: str, error: type[Exception], words: str):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(error, match=words):
        load_recipe(str(path))


@pytest.mark.parametrize(("theirs", "ours"), [("lr", "rate"), ("batch_size", "batch"), ("wd", "weight_decay")])
def test_names_of_other_libraries_lead_to_ours(theirs: str, ours: str):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{ours}'"):
        parse_settings([f"{theirs}=0.1"])
