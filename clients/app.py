"""The ClientApp: the thin layer between Flower's messages and a site's work."""

import logging
from collections.abc import Callable
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import work
from clients.place import Place, place_from_context
from fedbus.models import State
from fedbus.transport import ARRAYS, CONFIG, METRICS, Order, to_arrays, to_state

APP_RAISED = 2
"""Flower's code for an error that the application raised."""

Handler = Callable[[Message, Context], Message]


def make_client_app(locate: Callable[[Context], Place], *, candid: bool = False) -> ClientApp:
    """Build the application that a node runs.

    Args:
        locate: says which site the node is.
        candid: tell the server an error's text. Only for simulations, where server and site are one machine: the text
            may name files of the archive.
    """
    app = ClientApp()

    def guarded(handle: Handler) -> Handler:
        return handle if candid else _keep_to_ourselves(handle)

    @app.query()
    @guarded
    def introduce(message: Message, context: Context) -> Message:
        config, metrics = work.introduce(locate(context)).to_records()
        content = RecordDict({CONFIG: ConfigRecord(config), METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    @app.train()
    @guarded
    def train(message: Message, context: Context) -> Message:
        state, report = work.train(locate(context), _order(message), _state(message))
        arrays = ArrayRecord({key: Array(value) for key, value in to_arrays(state).items()})
        content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord(report.to_metrics())})
        return Message(content=content, reply_to=message)

    @app.evaluate()
    @guarded
    def evaluate(message: Message, context: Context) -> Message:
        report = work.evaluate(locate(context), _order(message), _state(message))
        return Message(content=RecordDict({METRICS: MetricRecord(report.to_metrics())}), reply_to=message)

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


def _state(message: Message) -> State:
    record = cast(ArrayRecord, message.content[ARRAYS])
    return to_state({key: array.numpy() for key, array in record.items()})


app = make_client_app(place_from_context)
