"""Messages of a request that are received a second time."""

from maxage.asgi.types import Message, Receive


def replaying(messages: list[Message], receive: Receive) -> Receive:
    """Return a receiver of these messages, and then of those that `receive` gives."""

    async def receive_again() -> Message:
        if messages:
            return messages.pop(0)
        message: Message = await receive()
        return message

    return receive_again


def whole_request(content: bytes) -> Message:
    """Return the message of a request body that comes in one piece."""
    return {"type": "http.request", "body": content, "more_body": False}
