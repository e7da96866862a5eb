"""The ClientApp: the thin layer between Flower's messages and a site's work."""

from collections.abc import Callable
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import work
from clients.place import Place, place_from_context
from fedbus.models import State
from fedbus.transport import ARRAYS, CONFIG, METRICS, Order, to_arrays, to_state


def make_client_app(locate: Callable[[Context], Place]) -> ClientApp:
    """Build the application that a node runs; `locate` says which site the node is."""
    app = ClientApp()

    @app.query()
    def introduce(message: Message, context: Context) -> Message:
        config, metrics = work.introduce(locate(context)).to_records()
        content = RecordDict({CONFIG: ConfigRecord(config), METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        state, report = work.train(locate(context), _order(message), _state(message))
        arrays = ArrayRecord({key: Array(value) for key, value in to_arrays(state).items()})
        content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord(report.to_metrics())})
        return Message(content=content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        report = work.evaluate(locate(context), _order(message), _state(message))
        return Message(content=RecordDict({METRICS: MetricRecord(report.to_metrics())}), reply_to=message)

    return app


def _order(message: Message) -> Order:
    return Order.from_config(cast(ConfigRecord, message.content[CONFIG]))


def _state(message: Message) -> State:
    record = cast(ArrayRecord, message.content[ARRAYS])
    return to_state({key: array.numpy() for key, array in record.items()})


app = make_client_app(place_from_context)
