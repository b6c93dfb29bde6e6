"""What of a range is still to come, when it is asked for in several attempts."""

from vbnfs.objects import ByteRange, Receive, Received


class Rest:
    """The part of `byte_range` that was not handed on to `receive` yet."""

    def __init__(self, byte_range: ByteRange, receive: Receive) -> None:
        self.byte_range = byte_range
        self.is_handing_on = False  # stays, where `receive` fails: how much of it was used is unknown
        self._receive = receive

    async def receive(self, received: Received) -> None:
        """Hand on what has come next."""
        self.is_handing_on = True
        await self._receive(received)
        self.is_handing_on = False
        self.byte_range = ByteRange(received.stop, self.byte_range.stop)
