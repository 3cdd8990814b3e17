"""All rules, group by group, in the order of ARCHITECTURE.md."""

from architecture import doors, habits, imports, money, names, purity, size, state, work
from architecture.tree import Rule

GROUPS = (imports, purity, doors, size, state, work, names, habits, money)
RULES: tuple[Rule, ...] = tuple(rule for group in GROUPS for rule in group.RULES)
