"""What of a range is still to come, when it is asked for in several attempts."""

from vbnfs.objects import ByteRange, Piece, Receive


class Rest:
    """The part of `byte_range` that was not handed on to `receive` yet."""

    def __init__(self, byte_range: ByteRange, receive: Receive) -> None:
        self.byte_range = byte_range
        self.is_handing_on = False  # stays, where `receive` fails: how much of the piece was used is unknown
        self._receive = receive

    async def receive(self, piece: Piece) -> None:
        """Hand on the next piece."""
        self.is_handing_on = True
        await self._receive(piece)
        self.is_handing_on = False
        self.byte_range = ByteRange(piece.stop, self.byte_range.stop)
