"""The ClientApp: the thin layer between Flower's messages and a site's work."""

import logging
from collections.abc import Callable
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import work
from clients.place import Place, place_from_context
from clients.ray_security import protect_flower_simulation
from fedbus.carrier import Carrier
from fedbus.models import State
from fedbus.references import References
from fedbus.transport import ARRAYS, CONFIG, METRICS, Order
from fedbus.wire import check_answer, check_introduction

APP_RAISED = 2
"""Flower's code for an error that the application raised."""

Handler = Callable[[Message, Context], Message]

Locate = Callable[[Context, Order], Place]
"""Says which site a node is, and where its data lie, prepared for the order's study."""


def make_client_app(locate: Locate, *, candid: bool = False, references: References | None = None) -> ClientApp:
    """Build the application that a node runs.

    Args:
        locate: finds the site.
        candid: tell the server an error's text. Only for simulations, where server and site are one machine: the text
            may name files of the archive.
        references: where models lie that messages only name; None: messages hold them.
    """
    app = ClientApp()

    def guarded(handle: Handler) -> Handler:
        return handle if candid else _keep_to_ourselves(handle)

    def carrier_for(order: Order) -> Carrier:
        return Carrier(order.study.transport, work.layout(order), references)

    @app.query()
    @guarded
    def introduce(message: Message, context: Context) -> Message:
        order = _order(message)
        config, metrics = work.introduce(locate(context, order), order).to_records()
        check_introduction(config, metrics)
        content = RecordDict({CONFIG: ConfigRecord(config), METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    @app.train()
    @guarded
    def train(message: Message, context: Context) -> Message:
        order = _order(message)
        carrier = carrier_for(order)
        state, report = work.train(locate(context, order), order, _state(message, carrier))
        arrays, metrics = carrier.pack(state), report.to_metrics()
        check_answer(metrics, {key: value.shape for key, value in arrays.items()}, carrier.layout)
        packed = ArrayRecord({key: Array(value) for key, value in carrier.load(arrays).items()})
        content = RecordDict({ARRAYS: packed, METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    @app.evaluate()
    @guarded
    def evaluate(message: Message, context: Context) -> Message:
        order = _order(message)
        carrier = carrier_for(order)
        metrics = work.evaluate(locate(context, order), order, _state(message, carrier)).to_metrics()
        check_answer(metrics, {}, carrier.layout)
        return Message(content=RecordDict({METRICS: MetricRecord(metrics)}), reply_to=message)

    return app


def _keep_to_ourselves(handle: Handler) -> Handler:
    """Say what went wrong at the site, and to the server only that something did."""

    def handled(message: Message, context: Context) -> Message:
        try:
            return handle(message, context)
        except Exception as error:
            logging.getLogger("fedbus").error("%s", error)
            reason = f"{type(error).__name__}; the site's own log says more"
            return Message(Error(APP_RAISED, reason), reply_to=message)

    return handled


def _order(message: Message) -> Order:
    return Order.from_config(cast(ConfigRecord, message.content[CONFIG]))


def _state(message: Message, carrier: Carrier) -> State:
    record = cast(ArrayRecord, message.content[ARRAYS])
    return carrier.unload({key: array.numpy() for key, array in record.items()})


protect_flower_simulation()
app = make_client_app(place_from_context)
