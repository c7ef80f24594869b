"""A subscription, from the application to the farewell: one run, however many years that takes.

    applied ─ a trial ─► month over ─► month begun ─ the card is charged ─► paid ─► the wait
                             ▲                                                ▲      │    │
                             └──────────── nobody said a word ────────────────┼──────┘    │ the customer's wish
                                                                              └─ upgrade ─┴─► ended

A month is one wait: for a wish of the customer, or for the end of the month, whichever comes first. Nothing runs meanwhile,
and everything may be restarted.
"""

from __future__ import annotations

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from cnstra import CNS, Axon, Context, Expectation, Signal, collateral, neuron
from subscription import services
from subscription.pace import DAY, month_after
from subscription.services import CardDeclined, Services
from subscription.words import PRICES, Application, Change, Farewell, Goodbye, Month, Upgrade, applied, wished

TRIAL = 14 * DAY
LATE = 15 * DAY
"""So long after its time a month is not charged for the time that has passed: the subscription was paused."""


class CalendarAxon(Axon):
    """What the calendar says."""

    month_over = collateral("calendar.month_over", Month)
    month_begun = collateral("calendar.month_begun", Month)
    upgrade = collateral("calendar.upgrade", Change)
    ended = collateral("subscription.ended", Farewell)


class CardsAxon(Axon):
    """What comes of asking for money."""

    paid = collateral("cards.paid", Month)


# A declined card is presented again after a day, three days and five days; then somebody has to look after the run, which
# has failed, and can be retried. When the next try is due stands in the database.
dunning = Retrying(
    stop=stop_after_attempt(4),
    wait=wait_chain(wait_fixed(DAY), wait_fixed(3 * DAY), wait_fixed(5 * DAY)),
    retry=retry_if_exception_type((CardDeclined, ConnectionError)),
)

calendar = neuron("calendar", CalendarAxon, local=Month)
cards = neuron("cards", CardsAxon, retry=dunning)


@calendar.dendrite(applied)
def begin(application: Application, axon: CalendarAxon, ctx: Context) -> Signal[Month]:
    """Two weeks for nothing: a timer, which waits in the database."""
    world: Services = ctx.services
    ctx["customer"], ctx["plan"] = application.customer, application.plan
    now = world.now()
    trial = Month(number=0, begins=now, ends=now + TRIAL)
    return axon.month_over.create_signal(trial, at=trial.ends)


@calendar.dendrite(CalendarAxon.month_over)
def begin_month(last: Month, axon: CalendarAxon, ctx: Context) -> Signal[Month]:
    """The next month begins when the last one has ended, so that no delay adds up; after a pause, today."""
    world: Services = ctx.services
    begins = last.ends if world.now() - last.ends < LATE else world.now()
    month = Month(number=last.number + 1, begins=begins, ends=month_after(begins))
    return axon.month_begun.create_signal(month)


@cards.dendrite(CalendarAxon.month_begun)
def collect(month: Month, axon: CardsAxon, ctx: Context) -> Signal[Month]:
    """A month's price, by the plan of the day. A card that is declined is presented again, as ``dunning`` says."""
    world: Services = ctx.services
    what = f"month {month.number}, {ctx['plan']}"
    world.cards.charge(ctx["customer"], PRICES[ctx["plan"]], what, key=ctx.idempotency_key, now=world.now())
    return axon.paid.create_signal(month)


@calendar.dendrite(CardsAxon.paid)
def wait(month: Month, axon: CalendarAxon, ctx: Context[None, Month]) -> Expectation:
    """Until the customer wishes something, or the month is over. What was wished while a card was dunned comes now."""
    world: Services = ctx.services
    ctx.local.set(month)
    return ctx.expect(
        wished,
        timeout=max(month.ends - world.now(), 0 * DAY),
        on_timeout=axon.month_over.create_signal(month),
    )


@calendar.dendrite(wished)
def hear(wish: Upgrade | Goodbye, axon: CalendarAxon, ctx: Context[None, Month]) -> Signal[Change] | Signal[Farewell]:
    """What the customer wishes. A goodbye leaves nothing that waits, so that the run has ended."""
    month = ctx.local.get()
    assert month is not None, "a month was set before the wait began"
    if isinstance(wish, Upgrade):
        return axon.upgrade.create_signal(Change(month=month, plan=wish.plan))
    farewell = Farewell(customer=ctx["customer"], months=month.number, paid_until=month.ends)
    return axon.ended.create_signal(farewell)


@cards.dendrite(CalendarAxon.upgrade)
def collect_difference(change: Change, axon: CardsAxon, ctx: Context) -> Signal[Month]:
    """The new plan holds from the payment of what is left of the month; then the wait goes on."""
    world: Services = ctx.services
    month, now = change.month, world.now()
    left = max(month.ends - now, 0 * DAY) / (month.ends - month.begins)
    amount = round((PRICES[change.plan] - PRICES[ctx["plan"]]) * left)
    world.cards.charge(ctx["customer"], amount, f"upgrade to {change.plan}", key=ctx.idempotency_key, now=now)
    ctx["plan"] = change.plan
    return axon.paid.create_signal(month)


cns = CNS([calendar, cards], name="subscription", services=services.real())
