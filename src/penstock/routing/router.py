"""Decides where a call may go, in what order, and says why the rest was left out.

Pure: it knows the configuration and the catalogue, never a socket or a clock. The result is a `Plan`; what is done with
it is the business of `attempts.py` and its driver.
"""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, structs

from penstock.call import Call, Who
from penstock.errors import ContextOverflow, PenstockError, PermissionDenied, UnknownModel, Unsupported
from penstock.routing.catalog import Catalog, nearest
from penstock.settings import Config, ModelSettings, ProviderSettings
from penstock.target import Price, Profile, Target

OUTPUT_BOUND = 131_072
"""Output tokens that a call without `max_tokens` is assumed not to exceed, where the catalogue knows no limit."""

NO_LIMIT = 1 << 62
"""More input than there is, where no limit is known."""

NAME_CHARACTERS = 256
DIRECT = 1000
"""Names outside the configuration that are remembered, and routes of teams."""


class LeftOut(Struct, frozen=True):
    """A target that cannot serve a call, and why."""

    target: str
    reason: str


class Options(Struct, frozen=True):
    """What else a route allows: see `settings.ModelSettings`."""

    static: str | None = None
    when_busy: str | None = None
    cache_s: float | None = None
    stale_s: float | None = None
    continues: bool = False


NO_OPTIONS = Options()


class Plan(Struct, frozen=True):
    """Targets in the order in which they are tried; `options` say what else may be done, the last rung among it.

    `window`, `output` and `input` are the narrowest limits of its targets, None where none is known; `longest` is the most output
    tokens that any of them may bill for one choice; `ids` are the targets' names, which tell plans apart at little cost.
    `baseline` is the target against which it is told what routing saved: whatever is left out or diverted, it stays.
    """

    model: str
    targets: tuple[Target, ...]
    left_out: tuple[LeftOut, ...] = ()
    options: Options = NO_OPTIONS
    window: int | None = None
    output: int | None = None
    input: int | None = None
    longest: int = OUTPUT_BOUND
    ids: tuple[str, ...] = ()
    baseline: Target | None = None

    @classmethod
    def of(
        cls,
        model: str,
        targets: tuple[Target, ...],
        left_out: tuple[LeftOut, ...] = (),
        options: Options = NO_OPTIONS,
        baseline: Target | None = None,
    ) -> "Plan":
        """Make the plan of these targets; the first is the baseline, if none is given."""
        profiles = [target.profile for target in targets]
        return cls(
            model,
            targets,
            left_out,
            options,
            window=min((p.context_tokens for p in profiles if p.context_tokens is not None), default=None),
            output=min((p.output_tokens for p in profiles if p.output_tokens is not None), default=None),
            input=min((p.input_tokens for p in profiles if p.input_tokens is not None), default=None),
            longest=max((p.output_tokens or OUTPUT_BOUND for p in profiles), default=OUTPUT_BOUND),
            ids=tuple(target.id for target in targets),
            baseline=baseline or (targets[0] if targets else None),
        )

    def output_bound(self, call: Call) -> int:
        """Give the most output tokens that the call may bill, over all choices."""
        if call.operation != "generate":
            return 0
        asked, longest, sampling = call.sampling.max_tokens, self.longest, call.sampling
        return (longest if asked is None or asked > longest else asked) * (sampling.n or 1)

    def surely_serves(self, call: Call) -> bool:
        """Tell, without a look at the content, that every target has room for the call."""
        bound, most = call.input_bound, self.most_input(call)
        return most == NO_LIMIT if bound is None else bound <= most

    def most_input(self, call: Call) -> int:
        """Give the largest bound of the input with which every target surely has room for such a call; -1 where none is."""
        asked, window, most = call.sampling.max_tokens or 1, self.window, self.input
        if self.output is not None and asked > self.output:
            return -1
        if most is None:
            most = NO_LIMIT
        return most if window is None or window - asked >= most else max(-1, window - asked)

    def speaking(self, call: Call) -> "Plan":
        """Keep the targets that speak the call's own dialect, since no other can honour what it asks. Raises Unsupported."""
        kept = tuple(target for target in self.targets if target.dialect == call.dialect)
        if len(kept) == len(self.targets):
            return self
        names = ", ".join(call.native)
        if not kept:
            raise Unsupported(
                f"No target of {self.model!r} speaks {call.dialect!r}, the only dialect that has {names}.",
                hint="Leave it out, or ask a model whose provider speaks that dialect.",
                param=call.native[0],
            )
        left = tuple(LeftOut(t.id, f"it cannot honour {names}") for t in self.targets if t not in kept)
        return Plan.of(self.model, kept, (*self.left_out, *left), self.options, self.baseline)

    def fit(self, call: Call, input_tokens: Mapping[str, int]) -> "Plan":
        """Leave out what has no room, given the least number of input tokens per target id.

        Raises ContextOverflow or Unsupported if nothing is left.
        """
        kept: list[Target] = []
        left: list[LeftOut] = []
        first: PenstockError | None = None
        for target in self.targets:
            problem = _unfit(call, target, input_tokens[target.id])
            if problem is None:
                kept.append(target)
            else:
                first = first or problem
                left.append(LeftOut(target.id, problem.message))
        if first is not None and not kept:
            raise first
        return Plan.of(self.model, tuple(kept), (*self.left_out, *left), self.options, self.baseline)


class Router:
    """The routes of one configuration, made once."""

    def __init__(self, config: Config, catalog: Catalog, dialects: Mapping[str, str]) -> None:
        """Resolve every configured name. `dialects` gives the dialect that a provider speaks."""
        self._catalog = catalog
        self._dialects = dialects
        self._providers = {provider.name: provider for provider in config.providers}
        self._prices: dict[str, Price] = dict(config.prices)
        self._teams = {team.name: frozenset(team.models) for team in config.teams if team.models}
        self._routes = {model.name: self._route(model) for model in config.models}
        self._direct: dict[str, Plan] = {}
        self._known: dict[tuple[str | None, str], Plan] = {}

    @property
    def models(self) -> Mapping[str, Plan]:
        """The configured models by name."""
        return MappingProxyType(self._routes)

    def allowed(self, who: Who) -> tuple[str, ...]:
        """Give the names of the configured models that this caller may use."""
        only = self._teams.get(who.team) if who.team is not None else None
        return tuple(name for name in self._routes if only is None or name in only)

    def plan(self, model: str, who: Who) -> Plan:
        """Give the route of a model. Raises UnknownModel or PermissionDenied."""
        plan = self._routes.get(model) or self._named(model)
        if who.team is not None:
            self._allow(who.team, plan)
        return plan

    def plan_call(self, call: Call, who: Who) -> Plan:
        """Give the route of a call: of its model, without the targets that cannot honour what only its dialect has."""
        plan = self._known.get((who.team, call.model)) or self._learn(call.model, who)
        return plan.speaking(call) if call.native else plan

    def _learn(self, model: str, who: Who) -> Plan:
        """Give the route of a model as `plan` does, and remember it for this team."""
        plan = self.plan(model, who)
        if len(self._known) >= DIRECT:
            self._known.clear()
        self._known[who.team, model] = plan
        return plan

    def find(self, name: str) -> Target | None:
        """Give the target of that name, `provider/model`; None where this configuration has no such provider."""
        return self._named(name).targets[0] if name.partition("/")[0] in self._providers else None

    def _route(self, model: ModelSettings) -> Plan:
        targets = tuple(structs.replace(self._target(name), strict=model.strict) for name in model.targets)
        options = Options(model.static, model.when_busy, model.cache_s, model.stale_s, model.continues)
        baseline: Target | None = None
        if model.baseline is not None:
            known = (target for target in targets if target.id == model.baseline)
            baseline = next(known, None) or self._target(model.baseline)
        return Plan.of(model.name, targets, (), options, baseline)

    def _allow(self, team: str, plan: Plan) -> None:
        allowed = self._teams.get(team)
        if allowed is not None and plan.model not in allowed:
            raise PermissionDenied(
                f"Team {team!r} may not use model {plan.model!r}.", hint=f"It may use: {', '.join(sorted(allowed))}."
            )

    def _named(self, name: str) -> Plan:
        """Find `provider/model`, or a bare name that the catalogue knows at a vendor's own provider."""
        known = self._direct.get(name)
        if known is not None:
            return known
        if len(name) > NAME_CHARACTERS or not name.isprintable():
            raise UnknownModel(
                "The name of the model is too long, or has characters that no name has.",
                hint=self._suggest(""),
                param="model",
            )
        provider, slash, model = name.partition("/")
        target = name if slash and model and provider in self._providers else self._vendor_target(name)
        plan = Plan.of(name, (self._target(target),))
        if len(self._direct) >= DIRECT:  # a client may ask for any name: keep what is remembered bounded
            self._direct.clear()
        self._direct[name] = plan
        return plan

    def _vendor_target(self, name: str) -> str:
        entry = self._catalog.find(name)
        if entry is not None:
            for provider in self._providers.values():
                if _is_vendor(provider, entry.vendor):
                    return f"{provider.name}/{name}"
        raise UnknownModel(f"There is no model {name!r}.", hint=self._suggest(name), param="model")

    def _suggest(self, name: str) -> str:
        known = [*self._routes, *(target.id for plan in self._routes.values() for target in plan.targets)]
        close = nearest(name, known)
        listing = ", ".join(close or sorted(self._routes)[:5])
        return f"Did you mean: {listing}?" if close else f"Known models: {listing}. GET /v1/models lists all."

    def _target(self, name: str) -> Target:
        provider_name, _, model = name.partition("/")
        provider = self._providers[provider_name]
        entry = self._catalog.find(model)
        own = self._prices.get(name)
        prices: tuple[Price, ...] = ()
        if own is not None:
            prices = (own,)
        elif entry is not None and _is_vendor(provider, entry.vendor):
            off = provider.discount_bp
            prices = entry.prices if off is None else _discounted(entry.prices, off)
        return Target(
            id=name,
            provider=provider_name,
            model=model,
            dialect=self._dialects[provider_name],
            prices=prices,
            free=provider.free and own is None,
            profile=_profile(provider, Profile() if entry is None else entry.profile),
        )


def _discounted(prices: tuple[Price, ...], discount_bp: int) -> tuple[Price, ...]:
    """Give list prices with what a provider takes off them, in place of any discount that they name."""
    return tuple(structs.replace(price, discount_bp=discount_bp) for price in prices)


def _profile(provider: ProviderSettings, facts: Profile) -> Profile:
    """Give what is known of a model, counted with the provider's own vocabulary where it has one."""
    return facts if provider.tokenizer is None else structs.replace(facts, tokenizer=str(provider.tokenizer))


def _is_vendor(provider: ProviderSettings, vendor: str) -> bool:
    """Whether this provider is the vendor itself, whose list prices therefore hold."""
    return provider.vendor == vendor


def _unfit(call: Call, target: Target, input_tokens: int) -> PenstockError | None:
    profile = target.profile
    asked = call.sampling.max_tokens or 1
    if profile.output_tokens is not None and call.sampling.max_tokens and asked > profile.output_tokens:
        return Unsupported(
            f"{target.id} writes at most {profile.output_tokens} tokens, {asked} were asked for.",
            hint="Lower max_tokens.",
            param="max_tokens",
        )
    if profile.input_tokens is not None and input_tokens > profile.input_tokens:
        return ContextOverflow(
            f"The prompt has {input_tokens} tokens, but {target.id} takes at most {profile.input_tokens}.",
            hint="Shorten the prompt or choose a model with a larger window.",
            param="messages",
        )
    window = profile.context_tokens
    if window is not None and input_tokens + asked > window:
        return ContextOverflow(
            f"The prompt has {input_tokens} tokens and {asked} are wanted for the answer, but {target.id} has a "
            f"context window of {window}.",
            hint="Shorten the prompt or choose a model with a larger window.",
            param="messages",
        )
    return None
