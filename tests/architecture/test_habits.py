"""Rules 11 to 14 are shown to fail on planted breaches."""

import pytest

from architecture import habits
from architecture.planted import Plant, check

# Cut from longer words, so that this file keeps the rules that it plants breaches of.
TO_DO, FIX_ME, THREE_X = "TODOS"[:-1], "FIXMES"[:-1], "XXXX"[:-1]
PLACE, FACTS, HELPER, DESIGN = (
    "/worksite/main".replace("site", ""),
    "_shared/facts"[1:],
    "helper_agent".replace("_", " "),
    "OUR_HOUSE.md"[4:],
)

BREACHES = (
    Plant("a module without a docstring", habits.docstrings, {"routing/x.py": "x = 1  # <-\n"}),
    Plant("a package without a docstring", habits.docstrings, {"routing/__init__.py": "import os  # <-\n"}),
    Plant("a docstring without a word", habits.docstrings, {"routing/x.py": '"""  """  # <-\n'}),
    Plant("a file without a test", habits.mirror, {"routing/x.py": '"""Text."""  # <-\n'}),
    Plant("a test in the wrong folder", habits.mirror, {"routing/x.py": "x = 1  # <-\n", "tests/test_x.py": "\n"}),
    Plant(
        "unfinished work",
        habits.unfinished,
        {
            "routing/x.py": f"""
                x = 1  # {TO_DO}: more  # <-
                y = "{FIX_ME}"  # <-
                def f():
                    raise NotImplementedError("later")  # <-
                """,
            "tests/routing/test_x.py": f"# {THREE_X}  # <-\n",
        },
    ),
    Plant("an abstract method", habits.unfinished, {"routing/x.py": "def f():\n    raise NotImplementedError  # <-\n"}),
    Plant(
        "broad excepts",
        habits.broad_excepts,
        {
            "routing/x.py": """
                import builtins
                import contextlib
                from contextlib import suppress as ignore

                try:
                    pass
                except Exception:  # <-
                    pass
                try:
                    pass
                except (ValueError, builtins.BaseException) as error:  # <-
                    raise
                try:
                    pass
                except:  # <-
                    pass
                try:
                    pass
                except* Exception:  # <-
                    pass
                with contextlib.suppress(Exception), ignore(ValueError):  # <-
                    pass
                with ignore(BaseException):  # <-
                    pass


                def f():
                    try:
                        pass
                    except Exception:  # <-
                        raise
                    try:
                        pass
                    except BaseException:  # <-
                        if f:
                            return
                        raise
                """
        },
    ),
    Plant(
        "a second last resort",
        habits.broad_excepts,
        dict.fromkeys(
            ("server/http11.py", "together.py"),
            "try:\n    pass\nexcept Exception:\n    pass\ntry:\n    pass\nexcept Exception:  # <-\n    pass\n",
        ),
    ),
    Plant(
        "a last resort in the line",
        habits.broad_excepts,
        {"gateway.py": "try:\n    pass\nexcept Exception as error:  # <-\n    settle(error)\n"},
    ),
    Plant(
        "words about the place",
        habits.own_words,
        {
            "routing/x.py": f"x = '{PLACE}'  # <-\n",
            "docs/x.md": f"see {FACTS}  # <-\na {HELPER}  # <-\n",
            "README.md": f"read {DESIGN}  # <-\n",
        },
    ),
    Plant(
        "a test that speaks of the place",
        habits.own_words,
        {"tests/test_x.py": f"x = '{FACTS}'  # <-\ny = '../{FACTS}'  # <-\n"},
    ),
)

SOUND = (
    Plant(
        "no test for a package and its main", habits.mirror, {"routing/__init__.py": "\n", "evals/__main__.py": "\n"}
    ),
    Plant(
        "last resorts, and a clean-up that raises on",
        habits.broad_excepts,
        {
            "server/http11.py": "try:\n    pass\nexcept BaseException:\n    pass\n",
            "together.py": "try:\n    pass\nexcept Exception:\n    pass\n",
            "gateway.py": "try:\n    pass\nexcept BaseException as error:\n    settle(error)\n    raise\n",
            "providers/x.py": "try:\n    pass\nexcept BaseException:\n    close()\n    raise\nexcept ValueError:\n    pass\n",
            "providers/y.py": "try:\n    pass\nexcept:\n    close()\n    raise\n",
        },
    ),
    Plant(
        "data of a test",
        habits.own_words,
        {
            "tests/test_x.py": "DATA = '../shared/data'\n",
            "docs/x.md": f"a frame/work/flow, types/{FACTS}\n",
        },
    ),
    Plant(
        "words that only look unfinished",
        habits.unfinished,
        {"routing/x.py": "PREFIX = 'TODOS'\nreturn_ = NotImplemented\n", "docs/x.md": f"{TO_DO}\n"},
    ),
)


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_rule_of_the_group_has_several_plants() -> None:
    assert all(sum(plant.rule is rule for plant in BREACHES) > 1 for rule in habits.RULES)
